"""Checks of `config.model`, so that a mistake is named by its key rather than by a shape deep in the network."""

from collections.abc import Sequence
from typing import Any

from ml_collections import FrozenConfigDict

from cmav.errors import UserError
from cmav.models.co_attention import ATTENTIONS
from cmav.models.conv import LOWERINGS
from cmav.models.positions import POSITIONS

CHOICES = {
    "attention": ATTENTIONS,
    "positions": POSITIONS,
    "audio_companding": ("mu_law", "none"),
    "remat": ("none", "stem", "encoders"),
    "conv_lowering": ("auto", *LOWERINGS),
    "dtype": ("float32", "bfloat16"),
}


def check_model_config(config: FrozenConfigDict) -> None:
    """Checks the values that can be checked before any array exists.

    Raises:
      UserError: names the key, its value and what is allowed.
    """
    for key, choices in CHOICES.items():
        if config[key] not in choices:
            raise UserError(f"config.model.{key}={config[key]!r} is not known: choose one of {', '.join(choices)}.")
    if config.hidden_size % config.num_heads or config.hidden_size % 2:
        raise UserError(
            f"config.model.hidden_size={config.hidden_size} must be even, and a multiple of "
            f"config.model.num_heads={config.num_heads}."
        )
    _check_layers("video_layers", config.video_layers, num_axes=3)
    _check_layers("audio_layers", config.audio_layers, num_axes=1)


def _check_layers(key: str, layers: Any, num_axes: int) -> None:
    for i, layer in enumerate(layers):
        kind, *args = layer
        sizes = args[1:] if kind == "conv" else args
        if kind not in ("conv", "pool") or len(sizes) not in (2, 3) or not all(_is_size(s, num_axes) for s in sizes):
            raise UserError(
                f"config.model.{key}[{i}]={layer!r} is not a layer: write ('conv', features, kernel, stride) or "
                f"('pool', kernel, stride), with {num_axes} positive number(s) in each kernel and stride, and in the "
                "dilation, where there is one after them."
            )
        _, strides, *dilation = sizes
        if dilation and any(stride > 1 and gap > 1 for stride, gap in zip(strides, dilation[0], strict=True)):
            raise UserError(
                f"config.model.{key}[{i}]={layer!r} has a stride and a dilation along the same axis: one of them must "
                "be 1."
            )


def _is_size(size: Any, num_axes: int) -> bool:
    return isinstance(size, Sequence) and len(size) == num_axes and min(size) >= 1
