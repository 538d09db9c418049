"""Writes a trained network as a folder that can be taken along, such as to the Hugging Face hub.

python -m cmav.export runs/sync_grid --out my_network
python -m cmav.export runs/demo/checkpoints/400 --out my_network --nostablehlo

| file                      | what it is                                                                              |
| ------------------------- | --------------------------------------------------------------------------------------- |
| `model.safetensors`       | the weights, to the bit, by their paths' names                                          |
| `config.json`             | what they mean: the config of the run                                                   |
| `README.md`               | model card: what it does, how it was trained, what it reached, what is not known        |
| `offset_calibration.json` | how sure it is of offsets, where the run has been evaluated for it                      |
| `stablehlo/NAME.bin`      | its functions with their weights, for JAX alone: any platform, any number of clips      |

Every command that takes a run with --checkpoint takes this folder, and so does --config.init.checkpoint. From Python:

    network = cmav.load("my_network")
    network.sync("video.mp4").verdict
    network.localize("video.mp4").maps
    network.encode_video("video.mp4")
"""

from collections.abc import Sequence

from absl import flags

from cmav import cli
from cmav.errors import UserError, to_paste


def _define_flags() -> None:
    flags.DEFINE_string("out", None, "The folder, new or empty; local or gs://.")
    flags.DEFINE_bool("stablehlo", True, "Write the programs as well.")


def main(checkpoints: Sequence[str]) -> None:
    cli.check_alone()
    out = flags.FLAGS.out
    if len(checkpoints) != 1 or not out:
        raise UserError("give one run, and a folder:" + to_paste("cmav", "export", "runs/demo", "--out", "my_network"))
    # It imports TensorFlow, and --help or a mistyped flag should not wait for that.
    from cmav.sharing.export import export

    for path in export(checkpoints[0], out, programs=flags.FLAGS.stablehlo):
        print(path)


if __name__ == "__main__":
    _define_flags()
    cli.run(main, takes_arguments=True)
