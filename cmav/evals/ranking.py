"""The pixels of a map, brightest first: all that the metrics of localization look at.

The field scales each map to 0..1 before it thresholds it at the median. Neither that nor any other growing function
changes which pixels are brighter, so it is left out.
"""

import dataclasses
import functools

import numpy as np
from scipy import ndimage

from cmav.localization.boxes import SIZE


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The pixels of a square map, brightest first. Pixels that are equally bright are in an order drawn by lot.

    Attributes:
      order_N: int64 [size·size], places in the map, row by row.
      ends_G: int64, where each group of equally bright pixels ends, exclusive.
    """

    order_N: np.ndarray
    ends_G: np.ndarray

    @classmethod
    def of(cls, heatmap_HxW: np.ndarray, size: int = SIZE) -> "Ranking":
        """Ranks a map of any size, after bilinear resizing to [size, size].

        Raises:
          ValueError: where the map is not two-dimensional or has a value that is not finite.
        """
        values_N = resize(heatmap_HxW, size).ravel()
        if not np.isfinite(values_N).all():
            raise ValueError("A map has values that are not finite: no pixel of it can be ranked.")
        lots_N = _lots(len(values_N))
        order_N = lots_N[np.argsort(-values_N[lots_N], kind="stable")]
        ends_G = np.append(np.flatnonzero(np.diff(values_N[order_N])) + 1, len(values_N))
        return cls(order_N, ends_G)

    def brightest(self, count: int) -> np.ndarray:
        """Returns the brightest `count` pixels, bool [size, size]: always as many, also of a map that is constant."""
        lit_N = np.zeros(len(self.order_N), bool)
        lit_N[self.order_N[:count]] = True
        size = round(len(lit_N) ** 0.5)
        return lit_N.reshape(size, size)

    def places(self) -> np.ndarray:
        """Returns the place of each pixel in the ranking, int64 [size, size]: 0 is the brightest."""
        places_N = np.empty_like(self.order_N)
        places_N[self.order_N] = np.arange(len(self.order_N))
        size = round(len(places_N) ** 0.5)
        return places_N.reshape(size, size)

    def brighter_half(self) -> np.ndarray:
        """The field's prediction: what is brighter than the median pixel, bool [size, size].

        That is half of the area less one pixel. With it, a box around the whole picture would be a success for every
        map, of noise too, at a cIoU of exactly 0.5.
        """
        return self.brightest(self._half)

    @property
    def share_by_lot(self) -> float:
        """How much of the picture is as bright as the median pixel and in or out of the brighter half by lot, 0..1.

        Near 0 for a map that says something of every place; 1 for a constant one.
        """
        group = int(np.searchsorted(self.ends_G, self._half))
        start = self.ends_G[group - 1] if group else 0
        return 0.0 if self.ends_G[group] == self._half else float(self.ends_G[group] - start) / len(self.order_N)

    @property
    def _half(self) -> int:
        return (len(self.order_N) - 1) // 2

    def average_precision(self, positive_HxW: np.ndarray) -> float:
        """Average precision of the pixels: the mean precision over the recalls at which it changes.

        As `sklearn.metrics.average_precision_score`: equally bright pixels are taken together, whatever their lots.

        Args:
          positive_HxW: bool [size, size], which pixels are to be found; at least one.
        """
        found_G = np.cumsum(positive_HxW.ravel()[self.order_N])[self.ends_G - 1]
        gained_G = np.diff(found_G, prepend=0)
        return float((gained_G * (found_G / self.ends_G)).sum() / found_G[-1])


def resize(heatmap_HxW: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Bilinear resizing to float32 [size, size]: pixels are areas, and beyond the edge it goes on as at the edge."""
    heatmap_HxW = np.asarray(heatmap_HxW, np.float32)
    if heatmap_HxW.ndim != 2 or not heatmap_HxW.size:
        raise ValueError(f"A map must be [height, width], not {heatmap_HxW.shape}.")
    if heatmap_HxW.shape == (size, size):
        return heatmap_HxW
    zoom = (size / heatmap_HxW.shape[0], size / heatmap_HxW.shape[1])
    return ndimage.zoom(heatmap_HxW, zoom, order=1, mode="nearest", grid_mode=True)


@functools.cache
def _lots(count: int) -> np.ndarray:
    """An order of the pixels without a pattern, the same for every map."""
    return np.random.default_rng(0).permutation(count)
