"""Shows where in one's own videos the sound comes from.

python -m cmav.localize video.mp4 another.avi --checkpoint runs/avs_cma --out localized
python -m cmav.localize my_videos --checkpoint runs/avs_cma/checkpoints/750000 --out localized --method attention
python -m cmav.localize video.mp4 --checkpoint runs/demo --out localized --method alignment --stride 4 --size 48

Which methods there are depends on the network's task; without --method it is the first of them:

| task     | methods                                                                                                  |
| -------- | -------------------------------------------------------------------------------------------------------- |
| `avs`    | `cam` asks the whole network, `attention` its heads; `similarity` and `alignment` ask the encoders alone |
| `cmac`   | `guided`, the picture's attention as the sound guides it, and `pure`, its own, which hears nothing       |
| `action` | after fine-tuning a network of `avs`: its methods but `cam`                                              |

`cmav/models/maps.py` and `cmav/models/cmac_net.py` explain them. `similarity` and `alignment` are for networks that
were trained with the temporal alignment loss (`config.loss.alignment_weight`). --stride makes finer maps of the same
weights, at little cost.

The network sees windows of its clip's length, each overlapping the next by half; their maps are joined in time
(`cmav.localization.heat.blend`). Of each video there are three files in --out:

| file                | what it is                                                                                  |
| ------------------- | ------------------------------------------------------------------------------------------- |
| `NAME.METHOD.mp4`   | the video in its own size and at its frames' own times, upright, with its sound and the map  |
| `NAME.METHOD.png`   | a contact sheet: frames, and the same with the map                                          |
| `NAME.METHOD.npz`   | the maps: numbers, for whoever wants to go on with them (below)                             |

Colours are relative to the whole video: it is lit from half of the 97th percentile of what is above 0 in its maps, and
brightest from this percentile on. So they say where and when there is more of the sound than elsewhere in this video;
between videos, and between methods, only the numbers of the .npz can be compared. What is silent has no source: maps
are weakened from 25 dB below the video's loudest moment on, and all 0 from 35 dB on, or where no moment of the video
reaches -60 dB of full scale (A-weighted levels of 50 ms, of which the loudest within 0.125 s of a map's instant counts,
or half way to the next one where that is further). With --method attention the brightness is the heads' combination,
and the colour says which heads. The sheet shows, of each sixth of the video, the instant that is lit most, and the
video's middle where --boxes knows only this.

`numpy.load` reads the .npz without pickle. N instants, A heads, H' and W' rows and columns of a map:

| array              | form                    | meaning                                                              |
| ------------------ | ----------------------- | -------------------------------------------------------------------- |
| `times`            | float64 [N]             | seconds from the first frame                                         |
| `maps`             | float32 [N, H', W']     | above 0: speaks for the sound; between the instants it is linear     |
| `heads`            | float32 [N, A, H', W']  | attention only: of which `maps` is the combination                   |
| `loudness`         | float32 [N]             | around the instants, dB of full scale, A-weighted                    |
| `rows`, `columns`  | float64 [H'], [W']      | centres of rows and columns, from 0 (top, left) to 1                 |
| `full`             | float64                 | the value that is shown brightest; 0: nothing is lit                 |
| `has_audio`, `note` | bool, text             | whether the video has sound; what of it was lost, or empty           |
| `method`, `run`, `step`, `size`, `stride` | text, integers | what the maps were made with                            |
"""

from collections.abc import Sequence

from absl import flags

from cmav import cli
from cmav.errors import UserError, to_paste
from cmav.media import isolated


def _define_flags() -> None:
    flags.DEFINE_string("checkpoint", None, cli.CHECKPOINT)
    flags.DEFINE_string("out", None, "Folder for the overlays, the contact sheets and the maps.")
    flags.DEFINE_string("method", None, "What the map is. Default: the first that the network has (above).")
    flags.DEFINE_string(
        "boxes",
        None,
        "Where the sound really is, to be drawn: vggss.json or a folder of XML, known of a video's middle, or the "
        "folder of a synthetic world, known of every frame.",
    )
    flags.DEFINE_integer("batch_size", 4, "Windows that the network sees at a time.", lower_bound=1)
    flags.DEFINE_integer(
        "size",
        None,
        "Width and height in pixels to which pictures are brought, --size of the shards that the network was trained "
        "on. Default: 8/7 of the network's crop, as 256 is of 224.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "stride",
        None,
        "Finer maps: pixels from one place of a map to the next, of the --size that the network sees. Any stride that "
        "it has after one of its layers, from which on the layers are dilated. Default: its own, without that.",
        lower_bound=1,
    )


def main(videos: Sequence[str]) -> None:
    cli.check_alone()
    args = flags.FLAGS
    missing = ["VIDEO"] if not videos else [f"--{name}" for name in ("checkpoint", "out") if not args[name].value]
    if missing:
        usage = to_paste("cmav", "localize", "VIDEOS", "--checkpoint", "RUN", "--out", "DIR")
        raise UserError(f"{missing[0]} is missing:{usage}")
    isolated.get_ready()  # Workers import beside this process.
    # It imports TensorFlow, and --help or a mistyped flag should not wait for that.
    from cmav.own_videos.localize import localize

    result = localize(
        videos,
        args.checkpoint,
        args.out,
        method=args.method,
        boxes=args.boxes,
        batch_size=args.batch_size,
        size=args.size,
        stride=args.stride,
    )
    for path, paths in result.written.items():
        print(f"{path}: {', '.join(paths)}" + (f"\n  {result.notes[path]}" if path in result.notes else ""))
    for path, reason in result.failures.items():
        print(f"{path}: failed: {reason}")
    if not result.written:
        raise UserError("none of the videos could be localized.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main, takes_arguments=True)
