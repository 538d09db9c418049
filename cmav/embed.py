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

from absl import flags

from cmav import cli
from cmav.errors import UserError, to_paste
from cmav.media import isolated

FAILURES_TO_SHOW = 10


def _define_flags() -> None:
    flags.DEFINE_string("videos", None, "Folder of videos, or a CSV with a column path (and start, end, label).")
    flags.DEFINE_string("checkpoint", None, cli.CHECKPOINT)
    flags.DEFINE_string("out", None, "File to write, .npz. What it has already is skipped.")
    flags.DEFINE_bool("per_second", False, "A row for each second, instead of one for each video.")
    flags.DEFINE_list(
        "layer",
        ["features"],
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
        usage = to_paste("cmav", "embed", "--videos", "DIR_OR_CSV", "--checkpoint", "RUN", "--out", "features.npz")
        raise UserError(f"--{missing[0]} is missing:{usage}")
    isolated.get_ready()  # Workers import beside this process.
    # It imports TensorFlow, and --help or a mistyped flag should not wait for that.
    from cmav.own_videos.embed import embed

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
