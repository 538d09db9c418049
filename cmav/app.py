"""A page in the browser: drop a video on it, and see whether its sound is in time, and where it comes from.

python -m cmav.app --checkpoint runs/sync_grid
python -m cmav.app                            # with the network that comes with cmav, which has seen discs and stars

It prints an address with a token, which opens on this machine alone, and asks nothing of any other. pip install
'cmav[app]' brings what it needs.
"""

import importlib.util
import os

from absl import flags

from cmav import cli
from cmav.errors import UserError, to_paste


def _define_flags() -> None:
    flags.DEFINE_string("checkpoint", "demo", cli.CHECKPOINT)
    flags.DEFINE_integer("port", 7860, "Of the page.", lower_bound=1, upper_bound=65_535)


def main() -> None:
    cli.check_alone()
    if not importlib.util.find_spec("gradio"):
        raise UserError("the page needs Gradio:" + to_paste("pip", "install", "cmav[app]"))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # It would ask whether there is a newer version.
    # They import TensorFlow and Gradio, and a mistyped flag should not wait for that.
    from cmav.sharing import page
    from cmav.sharing.network import Network

    checkpoint = flags.FLAGS.checkpoint
    page.serve(Network.load(checkpoint), checkpoint, flags.FLAGS.port)


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
