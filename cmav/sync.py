"""By how much is the sound of one's own videos off?

python -m cmav.sync my_videos --checkpoint runs/sync_grid --out sync.csv
python -m cmav.sync talk.mp4 interview.mov --checkpoint runs/sync_grid --out sync.json --max_shift_ms 2000
python -m cmav.sync my_videos --checkpoint runs/sync_grid --out sync.csv --fix corrected
python -m cmav.sync long.mp4 --checkpoint runs/sync_grid --out found.csv --find recorder.wav

For networks of synchronization (`avs`). What is given are videos, folders, which are walked to their depth, or a CSV
with a column path (and start, end). The table has a row for each video:

| column              | meaning                                                                                     |
| ------------------- | ------------------------------------------------------------------------------------------- |
| `path`              | of the video, absolute; with parts of videos also `start`, `end`, seconds                   |
| `offset_ms`         | positive: the sound is late. Of an offset that changes, the mean. Empty: it cannot be told  |
| `low_ms`, `high_ms` | the 95% interval                                                                            |
| `confidence`        | probability that the true offset is within one frame (of the network's rate) of this; where |
|                     | it cannot be told, of the likeliest one. Empty: not calibrated, or nothing to look at       |
| `verdict`           | "the sound is 120 ms late", "in time" (within a frame), "cannot tell: …"                    |

Whether intervals and confidences are right is measured on held-out clips by the evaluator `offset`
(`cmav.config.offset_evaluator`; `python -m cmav.evaluate`), which leaves `offset_calibration.json` in the run's folder.
Without it there are none of them, and the verdict says "not calibrated". They hold for videos of the kind that it was
measured on.

The network sees windows of its clip's length, and hears with each the sounds that start up to --max_shift_ms before
and after it, as far as the video is long enough. It cannot tell where there is no sound or nothing moves, where no
shift stands out, or where the sound fits at none (music over pictures). A video of four windows' length or more may
drift, or jump from one offset to another.

Beside OUT there is a folder OUT_report (without OUT's ending): `index.html`, a picture of each video's curve, and
`rows.jsonl`, which has all that was found (`cmav/own_videos/offset_rows.py`). What it has already is not done again, so
that a run which was killed goes on where it was. An OUT that ends with `.json` has the same as this file, as a list.

--fix DIR writes a corrected copy of each video whose sound is off: its streams are copied as they are, and only their
times are others (`cmav/own_videos/fixed_video.py`). Where the sound drifts, it is resampled and encoded again. A jump
is not mended, nor are parts of videos. Each copy is looked at again; two more columns, `fixed` and `fixed_verdict`,
have its path and what is then said of it.

--find SOUND looks in the videos' pictures for the place where another sound belongs, such as a recording of its own of
the same event. It must be as long as the network's clip, better longer. The table then has the columns `path`,
`seconds`, from the video's first frame to where the sound begins (empty: it cannot be told), `confidence`, `verdict`,
and `others`, the next best places.
"""

from collections.abc import Sequence

from absl import flags

from cmav import cli
from cmav.errors import UserError, to_paste
from cmav.media import isolated


def _define_flags() -> None:
    flags.DEFINE_string("checkpoint", None, cli.CHECKPOINT)
    flags.DEFINE_string("out", None, "Table to write, .csv or .json. What its report has already is not done again.")
    flags.DEFINE_float("max_shift_ms", 1000.0, "The greatest offset to look for, to either side.", lower_bound=1)
    flags.DEFINE_float("step_ms", None, "From a shift to the next: a frame of the network, the default, or a fraction.")
    flags.DEFINE_float("hop_ms", None, "From a window to the next. Default: an eighth of the network's clip.")
    flags.DEFINE_float(
        "min_confidence", None, "Say nothing with less confidence. Default: 0.5.", lower_bound=0, upper_bound=1
    )
    flags.DEFINE_string("find", None, "A sound: where in the videos does it belong? In place of their own offsets.")
    flags.DEFINE_string("fix", None, "Folder for corrected copies.")
    flags.DEFINE_integer("batch_size", 2, "Stretches of video that the network sees at a time.", lower_bound=1)
    flags.DEFINE_integer(
        "size",
        None,
        "Width and height in pixels to which pictures are brought, --size of the shards that the network was trained "
        "on. Default: 8/7 of the network's crop, as 256 is of 224.",
    )


def main(videos: Sequence[str]) -> None:
    cli.check_alone()
    args = flags.FLAGS
    missing = ["VIDEOS"] if not videos else [f"--{name}" for name in ("checkpoint", "out") if not args[name].value]
    if missing:
        usage = to_paste("cmav", "sync", "VIDEOS", "--checkpoint", "RUN", "--out", "sync.csv")
        raise UserError(f"{missing[0]} is missing:{usage}")
    if args.find and args.fix:
        raise UserError("--find and --fix: give one of them.")
    isolated.get_ready()  # Workers import beside this process.
    # They import TensorFlow, and --help or a mistyped flag should not wait for that.
    from cmav.own_videos.sync import find, sync
    from cmav.reporting import offsets as reporting

    if args.find:
        looks = {"min_confidence": args.min_confidence, "size": args.size}
        for row in find(args.find, videos, args.checkpoint, args.out, **looks):
            print(f"{row['path']}: {row['verdict']}")
        return
    result = sync(
        videos,
        args.checkpoint,
        args.out,
        max_shift_ms=args.max_shift_ms,
        step_ms=args.step_ms,
        hop_ms=args.hop_ms,
        min_confidence=args.min_confidence,
        fix=args.fix,
        batch_size=args.batch_size,
        size=args.size,
    )
    for row in result.rows:
        print(f"{row['path']}: {row['verdict']}")
        if "fixed_verdict" in row:
            print(f"  {row['fixed'] or 'not corrected'}: {row['fixed_verdict']}")
    print(f"{args.out}, {reporting.write_page(result.report, result.rows, result.made_with)}")


if __name__ == "__main__":
    _define_flags()
    cli.run(main, takes_arguments=True)
