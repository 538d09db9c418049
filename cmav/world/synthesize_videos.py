"""Makes videos of a world whose truth is known: objects that sound at events that one can see.

    cmav synthesize --out data/world --num_videos 200 --seed 0

writes `videos/<Class>/v_<Class>_g01_c01.mp4` (H.264 and AAC), and the truth beside them: boxes, class lists, splits,
event times (see `truth.py`). Then build shards of it as of any other videos:

    cmav prep --videos data/world/manifest.csv --out data/shards

The same seed and options give the same files, however many workers make them. A run that was interrupted continues
where it was; a larger --num_videos adds to what is there.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import sys
from fractions import Fraction
from pathlib import Path

from tqdm import tqdm

from cmav.world import truth, video
from cmav.world.scene import plan_scene, render_audio, render_frames
from cmav.world.world import CATALOGUE, ActionClass, World

SAMPLE_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # what AAC has, and holds the timbres


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        parser.print_help()
        return 2
    args = parser.parse_args(arguments)
    try:
        world = _world(args)
        _claim_folder(args.out, world)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    synthesize(args.out, world, args.num_videos, args.workers, args.quiet)
    truth.write_truth(args.out, world, args.num_videos, args.train_share)
    if not args.quiet:
        print(f"{args.num_videos} videos are in {args.out}; their list is {args.out / 'manifest.csv'}")
    return 0


def synthesize(folder: Path, world: World, num_videos: int, workers: int, quiet: bool = False) -> None:
    """Makes the videos and boxes that are not there yet."""
    missing = [n for n in range(num_videos) if not (folder / "videos" / truth.video_name(world, n)).exists()]
    with tqdm(total=num_videos, initial=num_videos - len(missing), unit="video", disable=quiet) as progress:
        if workers == 1:
            for number in missing:
                make_video(folder, world, number)
                progress.update()
            return
        # Spawned, not forked: a fork copies whatever locks the caller's threads hold.
        context = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)
        try:
            for job in concurrent.futures.as_completed(pool.submit(make_video, folder, world, n) for n in missing):
                job.result()
                progress.update()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, do not make the rest first


def make_video(folder: Path, world: World, number: int) -> None:
    """Makes one video, its boxes first: a video that is there is a whole one, with its boxes."""
    scene = plan_scene(world, number)
    path = folder / "videos" / truth.video_name(world, number)
    truth.write_boxes(folder / "boxes" / f"{path.stem}.npy", world, scene)
    audio = render_audio(world, scene)
    size = (world.width, world.height)
    video.write_mp4(path, render_frames(world, scene), size, world.frame_rate, audio, world.sample_rate)


def _claim_folder(folder: Path, world: World) -> None:
    """Notes the options in `world.json`, so that no folder ever mixes two worlds.

    Raises:
      ValueError: where the folder holds another world.
    """
    options = {
        "seed": world.seed,
        "duration": world.duration,
        "width": world.width,
        "height": world.height,
        "frame_rate": str(world.frame_rate),
        "sample_rate": world.sample_rate,
        "classes": [action.name for action in world.classes],
        "num_sources": list(world.num_sources),
        "distractors": list(world.distractors),
        "offscreen_share": world.offscreen_share,
    }
    if world.looks_by_timbre:  # Where it is not noted it is off: there are folders that are older than the option.
        options["looks_by_timbre"] = True
    path = folder / "world.json"
    if path.exists():
        before = json.loads(path.read_text())
        changed = [
            f"{key} {before.get(key, False)} there, {options.get(key, False)} asked"
            for key in {**options, **before}
            if before.get(key, False) != options.get(key, False)
        ]
        if changed:
            raise ValueError(f"{folder} holds another world ({'; '.join(changed)}); choose another --out, or delete it")
        return
    folder.mkdir(parents=True, exist_ok=True)
    truth.write_text(path, json.dumps(options, indent=1) + "\n")


def _world(args: argparse.Namespace) -> World:
    return World(
        seed=args.seed,
        duration=args.duration,
        width=args.width or args.size,
        height=args.height or args.size,
        frame_rate=args.frame_rate,
        sample_rate=args.sample_rate,
        classes=args.classes,
        num_sources=args.num_sources,
        distractors=args.distractors,
        offscreen_share=args.offscreen_share,
        looks_by_timbre=args.looks_by_timbre,
    )


def _parser() -> argparse.ArgumentParser:
    summary, details = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=_HelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the videos and their truth")
    add("--num_videos", type=_positive, required=True, metavar="N", help="how many, over all classes in turn")
    add("--seed", type=int, default=0, help="another seed is another world")
    add("--duration", type=float, default=10.0, metavar="SECONDS", help="of each video")
    add("--size", type=_positive, default=128, metavar="PIXELS", help="width and height")
    add("--width", type=_positive, metavar="PIXELS", help="instead of --size")
    add("--height", type=_positive, metavar="PIXELS", help="instead of --size")
    add("--frame_rate", type=_ratio, default="30000/1001", metavar="HZ", help="a number or a ratio")
    add("--sample_rate", type=int, choices=SAMPLE_RATES, default=44_100, metavar="HZ", help="of the sound")
    add("--num_sources", type=_range, default="1", metavar="N", help="sounding objects on screen: 2, or 1-3")
    add("--distractors", type=_range, default="0", metavar="N", help="silent moving objects: 1, or 0-2")
    add(
        "--offscreen_share",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="of the videos have a sound from off-screen; half of these have no other",
    )
    add("--looks_by_timbre", action="store_true", help="an object's shape and colour tell its timbre")
    add(
        "--classes",
        type=_classes,
        default="8",
        metavar="N",
        help=f"how many action classes, at most {len(CATALOGUE)}, or their names, as BounceBell,HopDrum",
    )
    add("--train_share", type=_share, default=0.8, metavar="SHARE", help="of each class is 'train' in manifest.csv")
    add("--workers", type=_positive, default=os.cpu_count(), metavar="N", help="processes")
    add("--quiet", action="store_true", help="no progress, no summary")
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Prints the docstring as it is, and defaults where they say something."""

    def _get_help_string(self, action):
        shown = action.default not in (None, False, argparse.SUPPRESS) and not action.required
        return f"{action.help} (default: %(default)s)" if shown and "default" not in action.help else action.help


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share


def _ratio(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number, as 25, nor a ratio, as 30000/1001") from None


def _range(text: str) -> tuple[int, int]:
    """Parses "2" as (2, 2) and "1-3" as (1, 3)."""
    least, _, most = text.partition("-")
    if not least.isdecimal() or not (most or least).isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number, as 2, nor a range, as 1-3")
    return int(least), int(most or least)


def _classes(text: str) -> tuple[ActionClass, ...]:
    if text.isdecimal():
        if not 1 <= int(text) <= len(CATALOGUE):
            raise argparse.ArgumentTypeError(f"there are {len(CATALOGUE)} classes, so not {text}")
        return CATALOGUE[: int(text)]
    known = {action.name: action for action in CATALOGUE}
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no class {unknown[0]!r}, but {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


if __name__ == "__main__":
    sys.exit(main())
