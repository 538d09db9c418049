"""Checks of `config.model`, so that a mistake is named by its key rather than by a shape deep in the network."""

from ml_collections import FrozenConfigDict

from cmav.errors import UserError
from cmav.models import encoders
from cmav.models.co_attention import ATTENTIONS
from cmav.models.conv import LOWERINGS
from cmav.models.encoders.base import REMATS
from cmav.models.positions import POSITIONS

CHOICES = {
    "attention": ATTENTIONS,
    "positions": POSITIONS,
    "fusion": ("flatten", "mean"),
    "remat": ("auto", *REMATS),
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
    if config.fusion_moments < 0:
        raise UserError(f"config.model.fusion_moments={config.fusion_moments} must be a temperature, or 0 for none.")
    encoders.check(config)
