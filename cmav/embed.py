"""Features of one's own videos, in one file.

python -m cmav.embed --videos my_videos --checkpoint runs/avs_cma --out features.npz
python -m cmav.embed --videos list.csv --checkpoint runs/avs_cma/checkpoints/750000 --out seconds.npz --per_second

The network sees windows of its clip's length. A video's features are the mean over windows that follow one another, the
last of which ends with the video. With --per_second there is a row for each second, of the window centred on it; at the
video's ends, of the nearest window that lies within. A video that is shorter than a window begins again when it ends.

Which layers there are depends on the network. `features`, the default, is what its task makes of a clip: after
synchronization (`avs`) and fine-tuning what the classification head sees, and one without sound is seen as by the
vision-only network; of attention consistency (`cmac`) the embeddings `video/embedding` and `audio/embedding` side by
side, the latter 0 where there is no sound. The methods of `python -m cmav.localize` depend on the network as well.

What --out has already is skipped, so that a run which was killed goes on where it was: until its end, what is new is in
the folder OUT.parts. Videos that gave nothing are in OUT.failed.csv, with the reason. `numpy.load(OUT)` has these
arrays, with a row for each video or second:

| array       | form                 | meaning                                                                 |
| ----------- | -------------------- | ----------------------------------------------------------------------- |
| `features`  | float32 [rows, size] |                                                                         |
| `path`      | text [rows]          | of the video, absolute                                                  |
| `start`     | float64 [rows]       | where the video, or the part that a CSV names, starts in the file; s    |
| `end`       | float64 [rows]       | where it ends; s; NaN: with the file                                    |
| `seconds`   | float64 [rows]       | middle of what the row is of, from the file's first frame; s            |
| `has_audio` | bool [rows]          | whether the video, or the part, has sound                               |
| `label`     | text [rows]          | as the CSV has it, or empty                                             |
| `note`      | text [rows]          | what of the video was lost, or empty; its first 200 characters          |
| `metadata`  | text, of JSON        | run and step, layers, clip, rates: what the features were made with     |
"""

import dataclasses
import functools
import itertools
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from tqdm import tqdm

from cmav import cli
from cmav.errors import UserError
from cmav.own_videos.feature_file import FeatureFile, Part, Row, write_failures
from cmav.own_videos.watch import Seen, watch
from cmav.tasks import features
from cmav.training import frozen

DEFAULT_LAYER = "features"
SAVE_SECONDS = 60.0  # between two savings
FAILURES_TO_SHOW = 10


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of the videos.

    Attributes:
      num_new: how many are new in the file.
      num_there: how many were in it already.
      failures: those that gave nothing, and why.
    """

    num_new: int
    num_there: int
    failures: list[tuple[Part, str]]


def embed(
    videos: str,
    checkpoint: str,
    out: str,
    *,
    layers: Sequence[str] = (DEFAULT_LAYER,),
    per_second: bool = False,
    batch_size: int = 8,
    size: int | None = None,
    num_workers: int | None = None,
) -> Result:
    """Writes the features of videos to a file. The module's docstring says which, and what is in it.

    Args:
      videos: a folder, walked to its depth, or a CSV as `cmav.media.manifest.read_csv` describes it, of any splits.
      checkpoint: as `cmav.training.frozen.load` takes it.
      out: the .npz file, local. What is in it already is not made again.
      layers: of the network, put side by side; see `cmav.tasks.features`.
      per_second: a row for each second, instead of one for each video.
      batch_size: windows that the network sees at a time.
      size: to which pictures are brought before the central crop, in pixels; None: as much larger than the crop as 256
        is than 224. Best is what the network's shards were built with.
      num_workers: processes that decode, each another video; None: one for each CPU core.

    Raises:
      UserError: where videos, checkpoint or layers are not there, or `out` was made with something else, or storage
        does not answer.
    """
    from cmav.media import manifest, windows

    if "://" in out:
        raise UserError(f"--out={out} must be a local file.")
    listed = manifest.read(videos, None)
    network = frozen.load_to_embed(checkpoint)
    task = network.task
    layers = features.find_layers(layers, task, "--layer")
    size = _picture_size(size, task.data_config.crop_size)
    file = FeatureFile(out, _metadata(network, layers, size, per_second), origin=("run", "step"))

    wanted = {
        (video.path(listed.root), video.start, video.end): video
        for video in itertools.chain.from_iterable(listed.splits.values())
    }
    todo = {part: video for part, video in wanted.items() if part not in file.parts}
    logging.info(
        "%d videos, %d of them in %s already; layer %s of step %d of %s",
        *(len(wanted), len(wanted) - len(todo), out, ", ".join(layers), network.step, network.run),
    )

    spacing = windows.Spacing.every_second if per_second else windows.Spacing.side_by_side
    seen_videos = watch(
        network,
        todo.values(),
        listed.root,
        functools.partial(_answer, task=task, layers=layers),
        size=size,
        spacing=spacing(task.clip),
        batch_size=batch_size,
        num_workers=num_workers,
    )
    make_rows = _second_rows if per_second else _video_rows
    failures = []
    saved = time.monotonic()
    try:
        progress = tqdm(seen_videos, total=len(todo), unit="video", disable=not todo)
        for (part, video), seen in zip(todo.items(), progress, strict=True):
            if seen.windows:
                file.add(make_rows(part, video.label_name, seen))
            else:
                failures.append((part, seen.note))
            if time.monotonic() - saved > SAVE_SECONDS:
                file.save()
                saved = time.monotonic()
    finally:
        file.finish()
        write_failures(f"{out}.failed.csv", failures)
    return Result(len(todo) - len(failures), len(wanted) - len(todo), failures)


def _picture_size(size: int | None, crop_size: int) -> int:
    if size is None:
        return round(crop_size * 256 / 224)
    if size < crop_size:
        raise UserError(f"--size={size} is smaller than the network's crop of {crop_size} pixels.")
    return size


def _metadata(network: frozen.FrozenNetwork, layers: Sequence[str], size: int, per_second: bool) -> dict[str, Any]:
    task = network.task
    return {
        "run": network.run if "://" in network.run else os.path.abspath(network.run),
        "step": network.step,
        "weights": network.checksum(),
        "mode": task.mode,
        "layers": list(layers),
        "rows": "seconds" if per_second else "videos",
        "clip_seconds": task.clip.seconds,
        "frame_rate": task.clip.achieved_frame_rate,
        "sample_rate": task.clip.sample_rate,
        "size": size,
        "crop_size": task.data_config.crop_size,
    }


def _video_rows(part: Part, label: str, seen: Seen) -> list[Row]:
    path, start, end = part
    first, last = seen.windows[0], seen.windows[-1]
    mean = np.mean(seen.answers, axis=0, dtype=np.float64).astype(np.float32)
    middle = (first.start + last.end) / 2
    return [Row(path, start, math.nan if end is None else end, middle, first.has_audio, label, seen.note, mean)]


def _second_rows(part: Part, label: str, seen: Seen) -> list[Row]:
    path, start, end = part
    end = math.nan if end is None else end
    return [
        Row(path, start, end, start + second + 0.5, window.has_audio, label, seen.note, vector)
        for second, (window, vector) in enumerate(zip(seen.windows, seen.answers, strict=True))
    ]


def _answer(variables: Any, batch: Mapping[str, jax.Array], *, task: Any, layers: tuple[str, ...]) -> jax.Array:
    outputs, _ = task.apply(variables, batch, train=False)
    return features.pooled(outputs, layers)


def _define_flags() -> None:
    flags.DEFINE_string("videos", None, "Folder of videos, or a CSV with a column path (and start, end, label).")
    flags.DEFINE_string("checkpoint", None, "Folder of a run, one of its folders checkpoints/<step>, or newest.")
    flags.DEFINE_string("out", None, "File to write, .npz. What it has already is skipped.")
    flags.DEFINE_bool("per_second", False, "A row for each second, instead of one for each video.")
    flags.DEFINE_list(
        "layer",
        [DEFAULT_LAYER],
        "Layer of the network, or several with commas between, which are put side by side: features, video/map, "
        "audio/map, video/tokens, video/layer_*, ... A wrong name gets the list of all.",
    )
    flags.DEFINE_integer("batch_size", 8, "Windows that the network sees at a time.", lower_bound=1)
    flags.DEFINE_integer(
        "size",
        None,
        "Width and height in pixels to which pictures are brought, --size of the shards that the network was trained "
        "on. Default: 8/7 of the network's crop, as 256 is of 224.",
    )


def main() -> None:
    cli.check_alone()
    args = flags.FLAGS
    missing = [name for name in ("videos", "checkpoint", "out") if not args[name].value]
    if missing:
        raise UserError(f"--{missing[0]} is missing: python -m cmav.embed --videos=DIR_OR_CSV --checkpoint=RUN --out=F")
    result = embed(
        args.videos,
        args.checkpoint,
        args.out,
        layers=args.layer,
        per_second=args.per_second,
        batch_size=args.batch_size,
        size=args.size,
    )
    print(f"{result.num_new} videos embedded, {result.num_there} were there already, {len(result.failures)} failed")
    for (path, *_), reason in result.failures[:FAILURES_TO_SHOW]:
        print(f"  {path}: {reason}")
    if result.failures:
        print(f"All that failed: {args.out}.failed.csv")
    if not result.num_new and not result.num_there:
        raise UserError(f"none of the videos of --videos={args.videos} could be embedded.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
