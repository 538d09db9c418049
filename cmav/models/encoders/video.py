"""What every encoder of frames can be asked beside: where the places of its map lie, and finer maps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.models.encoders.base import Encoder
from cmav.models.layers import field_centres, map_stride


class VideoEncoder(Encoder):
    """Its map is [N, T', H', W', C'].

    One that `hears` takes the sound in on its way (`multisensory.MultisensoryVideo`), so that its map is of a pair.
    """

    hears = False

    @nn.nowrap
    def places(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the receptive fields of the map's rows [H'] and columns [W'], as fractions of the picture.

        They are not those of a grid of H'×W' cells: a strided layer looks half a pixel of its input further down and
        right, because SAME padding puts the odd zero of an even picture there. Over the layers this comes to half a
        cell.

        Args:
          size: height and width of the frames, in pixels.
        """
        rows, columns = ((field_centres(self.geometry(), n, axis) + 0.5) / n for axis, n in enumerate(size, start=1))
        return rows, columns

    @property
    def stride(self) -> int:
        """Pixels from one place of the map to the next."""
        return map_stride(self.geometry())

    @nn.nowrap
    def finer(self, stride: int) -> FrozenConfigDict:
        """The settings of an encoder of the same weights whose map has a place every `stride` pixels.

        Raises:
          UserError: where it cannot have this stride; says which it can.
        """
        raise NotImplementedError


def scale_frames(video: jax.Array) -> jax.Array:
    """0 to 255, uint8 or a mixture of such -> float32 from -1 to 1."""
    return video.astype(jnp.float32) / 127.5 - 1
