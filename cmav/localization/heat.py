"""From maps of where the sound is to colours over a picture: joining windows in time, scaling, painting.

Maps are float arrays [..., H', W'] of any scale; what is above 0 speaks for the sound. Shape suffixes: N instants,
W windows, T times of a window's map, A heads, H and W rows and columns of a picture.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import matplotlib
import numpy as np

from cmav.localization.boxes import pixels
from cmav.models.loudness import SILENT_DBFS

ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)

# As Owens & Efros show theirs: from half of the 97th percentile on, a map is seen through; it never hides the picture.
FULL_PERCENTILE = 97
LEAST_SEEN = 0.5  # of what counts as full
MAX_OPACITY = 0.5  # theirs is 0.35
# Below the loudest moment of a video, in dB: what is this quiet has no source, and what is louder is not weakened. Of
# 100 clips of GRID, by the loudest 50 ms of every 0.25 s (`loudness.around`): the median of the pauses is 45 dB below
# the clip's loudest 50 ms, and 99% of the speech less than 16 dB; no pause of it is digital silence.
DARK_BELOW, FULL_ABOVE = -35.0, -25.0
_END_WEIGHT = 1e-6  # of a window's first and last instants, which at a video's ends no other window has


def between(maps_TxS: np.ndarray, times_T: np.ndarray, instants_N: np.ndarray) -> np.ndarray:
    """Maps [T, ...] at other instants, [N, ...]: linear between their times, constant outside of them."""
    place_N = np.interp(instants_N, times_T, np.arange(len(times_T)))
    before_N = np.minimum(place_N.astype(int), max(len(times_T) - 2, 0))
    after_N = np.minimum(before_N + 1, len(times_T) - 1)
    share_N = (place_N - before_N).reshape(-1, *[1] * (maps_TxS.ndim - 1))
    return (1 - share_N) * maps_TxS[before_N] + share_N * maps_TxS[after_N]


def blend(
    maps: Sequence[np.ndarray], spans: Sequence[tuple[float, float]], token_times_T: np.ndarray, instants_N: np.ndarray
) -> np.ndarray:
    """One course of maps from those of windows that overlap, without a seam where one begins or ends.

    Each window speaks for an instant with a weight that falls from 1 in its middle to 0 at its ends. Its first and its
    last map are left out, as long as two remain: the encoders see zeros beyond a window's ends, and as picture and
    sound both have that edge, all of the picture speaks for the sound there. It would outshine the rest of a video.

    Args:
      maps: of each window, [T, ...].
      spans: start and end of each window, in seconds.
      token_times_T: of a window's maps, in seconds from its start; they may lie a little outside of it.
      instants_N: in seconds; each in at least one window.

    Returns:
      float32 [N, ...].
    """
    inner = slice(1, -1) if len(token_times_T) > 3 else slice(None)
    total = np.zeros((len(instants_N), *maps[0].shape[1:]))
    weights_N = np.zeros(len(instants_N))
    for window, (start, end) in zip(maps, spans, strict=True):
        inside = (instants_N >= start) & (instants_N <= end)
        from_middle = abs(instants_N[inside] - (start + end) / 2) / ((end - start) / 2)
        weight = np.maximum(1 - from_middle, _END_WEIGHT)
        found = between(window[inner], token_times_T[inner] + start, instants_N[inside])
        total[inside] += weight.reshape(-1, *[1] * (found.ndim - 1)) * found
        weights_N[inside] += weight
    return (total / weights_N.reshape(-1, *[1] * (total.ndim - 1))).astype(np.float32)


def audible(loudness: ArrayT) -> ArrayT:
    """How much of a source there can be at each instant, 0 to 1, by how loud it is: what is silent has none.

    0 to 1 from 35 to 25 dB below the loudest instant. All 0 where this one is silent (`cmav.models.loudness`).

    Args:
      loudness: [..., instants] of a video, or of each of some, in dB of full scale.
    """
    loudest = loudness.max(axis=-1, keepdims=True)
    share = ((loudness - loudest - DARK_BELOW) / (FULL_ABOVE - DARK_BELOW)).clip(0, 1)
    return share * (loudest >= SILENT_DBFS)


def full(maps: np.ndarray) -> float:
    """The value that is shown at its brightest: the 97th percentile of what is above 0 in all of a video's maps.

    0 where nothing is. Of the values above 0, not of all: a short sound in a long video is lit as well.
    """
    positive = maps[maps > 0]
    return float(np.percentile(positive, FULL_PERCENTILE)) if positive.size else 0.0


def brightness(map_HxW: np.ndarray, full_value: float) -> np.ndarray:
    """0 to 1: from half of `full_value` to all of it. All 0 where this is 0."""
    if not full_value > 0:
        return np.zeros(map_HxW.shape, np.float32)
    least = LEAST_SEEN * full_value
    return np.clip((map_HxW - least) / (full_value - least), 0, 1).astype(np.float32)


def paint(
    picture_HxWx3: np.ndarray, map_HxW: np.ndarray, full_value: float, colours_HxWx3: np.ndarray | None = None
) -> np.ndarray:
    """A picture, uint8, with the map over it. Where the map is below half of `full_value` the picture is as it was.

    Args:
      picture_HxWx3: the picture, uint8.
      map_HxW: of its size.
      full_value: see `full`.
      colours_HxWx3: RGB, 0 to 1; None: from blue to red, as the map is bright.
    """
    bright_HxW = brightness(map_HxW, full_value)
    if colours_HxWx3 is None:
        # Without its dark ends, which over a dark picture would look like less.
        turbo_256x3 = matplotlib.colormaps["turbo"](np.linspace(0.1, 0.9, 256))[:, :3].astype(np.float32)
        colours_HxWx3 = turbo_256x3[(255 * bright_HxW).astype(np.uint8)]
    opacity_HxWx1 = np.minimum(bright_HxW, MAX_OPACITY)[..., None]
    return (picture_HxWx3 + opacity_HxWx1 * (255 * colours_HxWx3 - picture_HxWx3) + 0.5).astype(np.uint8)


def mix_heads(heads_AxHxW: np.ndarray) -> np.ndarray:
    """What colour a map has where: that of its heads, each by the square of what it has above 0. float32 [3, H, W].

    Squares, because a mean of many colours is grey: the head that has most should be seen.
    """
    shares_AxHxW = np.maximum(heads_AxHxW, 0).astype(np.float64) ** 2
    shares_AxHxW /= np.maximum(shares_AxHxW.sum(axis=0), np.finfo(np.float64).tiny)
    return np.einsum("ahw,ac->chw", shares_AxHxW, head_colours(len(heads_AxHxW))).astype(np.float32)


def head_colours(num_heads: int) -> np.ndarray:
    """One colour for each head, as different as can be: RGB, 0 to 1, [A, 3]."""
    return matplotlib.colormaps["hsv"](np.arange(num_heads) / num_heads)[:, :3]


def draw_boxes(picture_HxWx3: np.ndarray, boxes_Kx4: np.ndarray) -> np.ndarray:
    """A picture with the outlines of boxes, x0, y0, x1, y1 from 0 to 1: white, within it black, to be seen on white."""
    height, width = picture_HxWx3.shape[:2]
    thick = max(1, min(height, width) // 120)
    picture = picture_HxWx3.copy()
    for box in boxes_Kx4:
        rows, _ = pixels(box, height)
        _, columns = pixels(box, width)
        within = picture[rows, columns]  # a view
        inside = within[2 * thick : -2 * thick, 2 * thick : -2 * thick].copy()
        within[:] = 255
        within[thick:-thick, thick:-thick] = 0
        within[2 * thick : -2 * thick, 2 * thick : -2 * thick] = inside
    return picture
