"""Self-supervised audio-visual learning in JAX/Flax."""

import os
import typing

if typing.TYPE_CHECKING:
    from cmav.sharing.network import Network

# Of what TensorFlow reads at a place under gs://, it fetches as many megabytes; without this 64, where a record has 5.
# It looks when it is loaded, hence here.
os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "8")


def load(checkpoint: "str | os.PathLike[str]") -> "Network":
    """A trained network, with `encode_video`, `encode_audio`, `sync` and `localize` (`cmav.sharing.network.Network`).

    Args:
      checkpoint: the folder of an exported network or of a run, or one of its folders `checkpoints/<step>`, local or
        gs://; or the name of a network that comes with cmav, such as "demo".

    Raises:
      cmav.errors.UserError: where there is none.
    """
    from cmav.sharing.network import Network  # Only here, for it imports JAX and TensorFlow.

    return Network.load(checkpoint)
