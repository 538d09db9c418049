"""Builds training shards from videos.

  cmav prep --videos my_videos --out data --split train
  cmav prep --videos list.csv --out data

--videos is a folder, which is walked to its depth, or a CSV file with columns
  path            absolute, or relative to the CSV file's folder
  start, end      optional, seconds: the part of the video to use
  label           optional: numbers from 0 in all rows, or names in all
  split           optional: train, validation, test, ...; each is built
  splits          optional: official splits, separated by ;
--validation_share 0.1 builds train and validation from one folder or CSV. The
same moments of a video may not be in two splits.
Each video is cut into clips of --clip_seconds; the remainder is dropped. For
labelled sets, --clip_seconds 0 keeps videos whole. What could not be used is
listed with the reason in OUT/rejects.csv.

--dataset NAME builds a labelled set from its official lists, videos whole, into
one split with the official ones as views of it: "train1" and "test1" then open
like any split, and the end of the build says how many of their videos are there.
  cmav prep --dataset ucf101 \\
      --videos UCF-101 --lists ucfTrainTestlist --out ucf101
  NAME                    --lists is the folder of
  ucf101                  classInd.txt, trainlist01.txt, testlist01.txt, ...
  hmdb51                  brush_hair_test_split1.txt, ...
  kinetics_sounds         Kinetics' CSV files (label, youtube_id, time_start, ...)
  esc50                   esc50.csv; sounds without pictures
  dcase2013               not needed; sounds without pictures
  tfds:ucf101/ucf101_1    what TFDS has prepared, in --videos or where TFDS keeps
                          its data; pictures without sound, no --lists
Videos are found by path, name or stem, with any extension, anywhere below
--videos.

A run that was killed continues when the same command is given again. Where videos
have been added to the folder or the CSV, they are built into further shards.

No videos at hand? Make some:
  cmav synthesize --out videos --num_videos 200 --seed 0

In a checkout they are python data_prep/build_tfrecords.py and
data_prep/synthesize_videos.py as well.
"""

import argparse
import os
import sys
from fractions import Fraction

from cmav.media import isolated


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line. Returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    args = parser.parse_args(arguments)
    _check(parser, args)
    # TensorFlow comes after the flags, so that help and mistyped flags do not wait for it, and without its greetings,
    # here and in the workers. (The oneDNN one cannot be had quiet otherwise; nothing here computes with it.) Workers
    # import meanwhile.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if args.runner == "local" and (args.videos or args.dataset):
        isolated.get_ready()
    from cmav.prep import build

    return build.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--videos", metavar="DIR_OR_CSV", help="where the videos are")
    add("--dataset", metavar="NAME", help="a labelled set with official lists: see above")
    add("--lists", metavar="DIR", help="where the lists of --dataset are")
    add("--out", metavar="DIR", required=True, help="dataset folder, local or gs://; may hold other splits")
    add(
        "--split",
        metavar="NAME",
        help="what to build, or to verify; default: each split that the CSV lists, else train; with --dataset, videos",
    )
    add(
        "--validation_share",
        type=float,
        metavar="X",
        help="build train and validation, with this share of the videos held out: by their names, so that none changes "
        "sides when others are added",
    )
    add("--allow_overlap", action="store_true", help="let the same moments of a video be in several splits")
    add("--clip_seconds", type=_number, help="default 10, and 0 with --dataset; 0 keeps videos whole")
    add("--size", type=int, default=256, help="width and height of the pictures in pixels; default 256")
    add("--frame_rate", type=_number, default=Fraction(30000, 1001), help="pictures per second; default 30000/1001")
    add("--sample_rate", type=int, default=21_000, help="audio samples per second; default 21000")
    add("--jpeg_quality", type=int, default=90, help="1 to 100; default 90")
    add("--shards", type=int, default=0, help="number of shard files; default: by the number and length of the videos")
    add("--workers", type=int, default=os.cpu_count() or 1, help="parallel processes; default: one per CPU core")
    add(
        "--shard_range",
        type=_range,
        metavar="i/n",
        help="do only the i-th of n parts, i from 0: n machines with a common OUT, each with its own i, share the work",
    )
    add(
        "--retry_rejects",
        action="store_true",
        help="build again the shards that have rejects, such as after a download or a disk has been mended",
    )
    add(
        "--skip_gone",
        action="store_true",
        help="go on where videos are gone that were there when the split was planned; without it that is an error",
    )
    add("--runner", choices=("local", "beam"), default="local", help="beam: on Apache Beam (pip install 'cmav[beam]')")
    add(
        "--beam_args",
        default="",
        metavar="ARGS",
        help='with "=" before them: --beam_args="--runner=FlinkRunner --flink_master=host:8081"',
    )
    add("--verify", action="store_true", help="re-read the dataset and check every record; alone, only --out is needed")
    return parser


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    of_tfds = (args.dataset or "").startswith("tfds:")
    if not args.videos and not of_tfds and (args.dataset or not args.verify):
        parser.error("--videos is missing: a folder or a CSV file (or give --verify to check a finished dataset)")
    if args.lists and (of_tfds or not args.dataset):
        parser.error("--lists is for --dataset with one of the sets that have lists: see --help")
    if of_tfds and args.runner == "beam":
        parser.error("--dataset tfds:... is built on one machine, or with --shard_range on several; not on Beam")
    if args.validation_share is not None:
        if not 0 < args.validation_share < 1:
            parser.error(f"--validation_share must be above 0 and below 1, not {args.validation_share:g}")
        if args.dataset or args.split or not args.videos:
            parser.error("--validation_share divides the videos of --videos; not with --dataset or --split")
    if args.clip_seconds is None:
        args.clip_seconds = Fraction(0 if args.dataset else 10)
    for key, least, most in (
        ("size", 1, 65_500),
        ("sample_rate", 1, 768_000),
        ("jpeg_quality", 1, 100),
        ("workers", 1, None),
        ("shards", 0, 99_999),
        ("clip_seconds", 0, None),
    ):
        value = getattr(args, key)
        if value < least or (most is not None and value > most):
            parser.error(
                f"--{key} must be " + (f"{least} to {most}" if most else f"at least {least}") + f", not {value}"
            )
    if args.frame_rate <= 0:
        parser.error(f"--frame_rate must be positive, not {args.frame_rate}")
    if args.clip_seconds and round(args.clip_seconds * args.frame_rate) < 1:
        parser.error(f"--clip_seconds {args.clip_seconds} is less than one frame at {args.frame_rate} per second")
    if args.beam_args and args.runner != "beam":
        parser.error("--beam_args needs --runner beam")


def _number(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, nor a fraction such as 30000/1001") from error


def _range(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/n with i from 0 to n-1, such as 0/4, 1/4, 2/4, 3/4")
    return int(part), int(parts)


if __name__ == "__main__":
    # As a command of its own, without Keras, which nothing here needs: a third of TensorFlow's import.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    sys.exit(main())
