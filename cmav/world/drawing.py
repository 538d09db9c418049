"""How the synthetic world looks: outlines, colours, backgrounds, boxes. NumPy only; an object touches its patch only.

Nothing here knows of classes: unless a kind of look is asked for, what an object looks like tells nothing about what it
does or how it sounds.
"""

import colorsys
import dataclasses

import numpy as np

from cmav.world.motions import Track

_ANGLES = np.linspace(0, 2 * np.pi, 720, endpoint=False)
_REACH = 1.25  # of any outline at most, in radii
_RING_HOLE = 0.5  # of the radius
_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601, as the encoder's


def _polygon(corners: int) -> np.ndarray:
    sector = 2 * np.pi / corners
    return np.cos(sector / 2) / np.cos(_ANGLES % sector - sector / 2)


def _star(points: int) -> np.ndarray:
    sector = 2 * np.pi / points
    from_tip = np.abs((_ANGLES + sector / 2) % sector - sector / 2) / (sector / 2)
    return 1 - 0.55 * from_tip


def _cross() -> np.ndarray:
    half_width = 0.4
    folded = np.abs((_ANGLES + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    return np.minimum(1 / np.cos(folded), half_width / np.maximum(np.sin(folded), 1e-9))


def _fair(outline: np.ndarray) -> np.ndarray:
    """Brings an outline to the area of the unit disc, as far as that takes it no further than _REACH."""
    return outline / max(np.sqrt(np.mean(outline**2)), outline.max() / _REACH)


# The outline of each shape in polar form: its reach at each of _ANGLES, in radii.
OUTLINES = {
    "disc": np.ones(len(_ANGLES)),
    "ring": np.ones(len(_ANGLES)),
    "triangle": _fair(_polygon(3)),
    "square": _fair(_polygon(4)),
    "hexagon": _fair(_polygon(6)),
    "star": _fair(_star(5)),
    "cross": _fair(_cross()),
}
NUM_KINDS = 6  # of looks that are told apart by shape and hue


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """What an object looks like at rest."""

    shape: str
    angle: float  # radians
    radius: float  # pixels
    color: np.ndarray  # RGB, 0..255

    @property
    def extent(self) -> np.ndarray:
        """The corners of the box around the outline, from the centre: [[left, top], [right, bottom]], in pixels."""
        directions = np.stack([np.cos(_ANGLES + self.angle), np.sin(_ANGLES + self.angle)], axis=1)
        outline = OUTLINES[self.shape][:, None] * directions
        return self.radius * np.stack([outline.min(axis=0), outline.max(axis=0)])


def random_look(rng: np.random.Generator, side: float, kind: int | None = None) -> Look:
    """Draws a look for a picture whose shorter side is `side`: any shape and hue, middle brightness, so that
    it stands out from the dark background and white stands out from it.

    Looks of one `kind`, 0 to `NUM_KINDS` - 1, have one shape and about the same hue, and those of two kinds neither.
    """
    hue, saturation = rng.random(), rng.uniform(0.5, 1.0)
    if kind is not None:
        hue, saturation = (kind + 0.4 * (hue - 0.5)) / NUM_KINDS % 1.0, (1 + saturation) / 2
    color = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, 1.0))
    luma, wanted = color @ _LUMA, rng.uniform(120, 170)
    darker, lighter = color * wanted / luma, color + (255 - color) * (wanted - luma) / (255 - luma)
    color = darker if luma > wanted else lighter
    any_shape = rng.integers(len(OUTLINES))  # drawn in any case: what follows is to be the same
    shape = list(OUTLINES)[any_shape if kind is None else kind]
    return Look(shape, rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.2) * side, color)


def random_background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Returns a dark, smooth picture float32 [height, width, 3] of random colours."""
    base = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(30, 60)))
    grid = base * rng.uniform(0.6, 1.2, (3, 3, 1)) + rng.uniform(-8, 8, (3, 3, 3))
    rows, columns = _tents(height), _tents(width)
    return np.einsum("hi,wj,ijc->hwc", rows, columns, grid.clip(0, 255)).astype(np.float32)


def _tents(size: int) -> np.ndarray:
    """Weights [size, 3] that interpolate three knots linearly."""
    return np.maximum(0, 1 - np.abs(np.linspace(0, 2, size)[:, None] - np.arange(3)))


def paint(picture: np.ndarray, look: Look, center: np.ndarray, scale: np.ndarray, glow: float) -> None:
    """Draws an object with smooth edges into `picture` (float32 [height, width, 3]), in place."""
    height, width = picture.shape[:2]
    reach = look.radius * _REACH * scale + 1
    left, top = np.maximum(np.floor(center - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(center + reach), [width, height]).astype(int)
    # Pixel (i, j) covers [i, i + 1): its centre is half a pixel further.
    x = (np.arange(left, right, dtype=np.float32) + 0.5 - center[0]) / scale[0]
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5 - center[1])[:, None] / scale[1]
    distance = np.hypot(x, y)
    turn = (np.arctan2(y, x) - look.angle) / (2 * np.pi) % 1.0
    outline = OUTLINES[look.shape][np.rint(turn * len(_ANGLES)).astype(int) % len(_ANGLES)]
    opacity = np.clip(look.radius * outline - distance + 0.5, 0, 1)
    if look.shape == "ring":
        opacity *= np.clip(distance - look.radius * _RING_HOLE + 0.5, 0, 1)
    patch = picture[top:bottom, left:right]
    patch += opacity[..., None].astype(np.float32) * ((1 - glow) * look.color + glow * 255 - patch).astype(np.float32)


def boxes(look: Look, track: Track, width: int, height: int) -> np.ndarray:
    """Returns the box around an object in each frame, float32 [frames, 4]: x0, y0, x1, y1, each from 0 to 1."""
    corners = track.centers[:, None] + look.extent * track.scales[:, None]  # [frames, 2, 2]
    return (corners / [width, height]).clip(0, 1).reshape(-1, 4).astype(np.float32)
