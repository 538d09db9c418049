"""The layers of an encoder: how a config writes them, where their outputs look, and how to make their map finer."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmav.errors import UserError
from cmav.models.conv import same_padding


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer. Kernel, strides and dilation have a number for each axis: time, or time, height and width."""

    kind: str  # "conv" or "pool"
    features: int | None  # of a convolution; None: a pool keeps its input's
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]  # from tap to tap of the kernel, in steps of the input; 1: no gaps

    def to_config(self) -> tuple[Any, ...]:
        """As a config writes it: ("conv", features, kernel, stride) or ("pool", kernel, stride), and any dilation."""
        features = () if self.features is None else (self.features,)
        dilation = (self.dilation,) if max(self.dilation) > 1 else ()
        return (self.kind, *features, self.kernel, self.strides, *dilation)


def parse(layers: Sequence[Sequence[Any]]) -> tuple[Layer, ...]:
    """Reads layers as a config writes them. That they are well formed is the encoder's `check`'s to say."""

    def read(kind, *args):
        features, sizes = (args[0], args[1:]) if kind == "conv" else (None, args)
        kernel, strides, *dilation = map(tuple, sizes)
        return Layer(kind, features, kernel, strides, *(dilation or [(1,) * len(kernel)]))

    return tuple(read(*layer) for layer in layers)


def field_centres(layers: Sequence[Sequence[Any]], length: int, axis: int) -> np.ndarray:
    """Centres of the receptive fields of the outputs along one axis, float64, in steps of the input: 0 is its first.

    Exact for the given length: where SAME padding puts its zeros depends on it. Centres near an end can lie outside of
    the input, where most of the receptive field is padding.

    Args:
      layers: of an encoder, as in the config.
      length: number of frames, samples or pixels of the input.
      axis: 0 is time, 1 height and 2 width.
    """
    centre, step = 0.0, 1  # of output 0, and between outputs, in steps of the input
    for layer in parse(layers):
        kernel, stride, dilation = layer.kernel[axis], layer.strides[axis], layer.dilation[axis]
        before, _ = same_padding(length, kernel, stride, dilation)
        centre += step * (dilation * (kernel - 1) / 2 - before)
        step *= stride
        length = -(-length // stride)
    return centre + step * np.arange(length)


def map_stride(layers: Sequence[Sequence[Any]]) -> int:
    """Pixels from one place of a video encoder's map to the next, in height."""
    return math.prod(layer.strides[1] for layer in parse(layers))


def finer(layers: Sequence[Sequence[Any]], stride: int) -> tuple[tuple[Any, ...], ...]:
    """The layers of a video encoder whose map has a location every `stride` pixels, for the weights as they are.

    The last strides in space become 1, and the layers after each of them are dilated in its place, so that a kernel's
    taps see what they saw before (as in Yu et al., "Dilated Residual Networks", 2017). Where an encoder that is not
    training had a location, the finer one has the same, with the same value, at the borders too. Time stays as it is.

    Args:
      layers: of the video encoder, as in the config.
      stride: pixels from location to location: what it is after any of the layers. What it is after the last changes
        nothing.

    Returns:
      As many layers, in the config's form.

    Raises:
      UserError: where the encoder has no such stride, or height and width have not the same.
    """
    parsed = parse(layers)
    for layer in parsed:
        if layer.strides[1] != layer.strides[2]:
            raise UserError(
                "A finer map needs equal strides in height and width, and config.model.video.layers has "
                f"{layer.to_config()!r}: use the map as it is."
            )
    known = sorted({math.prod(layer.strides[1] for layer in parsed[: i + 1]) for i in range(len(parsed))})
    if stride not in known:
        raise UserError(
            f"The video encoder has no locations with a stride of {stride} pixels: choose one of "
            f"{', '.join(map(str, known))} (config.model.video.layers; the map itself has {known[-1]})."
        )
    reached, removed, made = 1, 1, []
    for layer in parsed:
        time, step = layer.strides[:2]
        gaps = (layer.dilation[0], *(removed * gap for gap in layer.dilation[1:]))
        if reached * step <= stride:
            reached *= step
        else:
            removed *= step
            step = 1
        made.append(dataclasses.replace(layer, strides=(time, step, step), dilation=gaps).to_config())
    return tuple(made)
