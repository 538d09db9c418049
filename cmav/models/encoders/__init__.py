"""Encoders by name. Each is a file: a front end, layers, settings (their defaults are in `cmav.config`)."""

from ml_collections import FrozenConfigDict

from cmav.config import ENCODERS
from cmav.errors import UserError
from cmav.models.encoders.base import Encoder
from cmav.models.encoders.layered import Conv1d, Conv3d
from cmav.models.encoders.log_mel import LogMel2d
from cmav.models.encoders.multisensory import MultisensoryAudio, MultisensoryVideo
from cmav.models.encoders.residual import R2Plus1d, R3d
from cmav.models.encoders.video import VideoEncoder

VIDEO: dict[str, type[VideoEncoder]] = {
    "conv3d": Conv3d,
    "r2plus1d_18": R2Plus1d,
    "r3d_18": R3d,
    "multisensory": MultisensoryVideo,
}
AUDIO: dict[str, type[Encoder]] = {"conv1d": Conv1d, "log_mel_2d": LogMel2d, "multisensory": MultisensoryAudio}


def video(config: FrozenConfigDict) -> VideoEncoder:
    """The encoder of frames of `config.model`. Not bound to parameters, it can be asked of its geometry."""
    return VIDEO[config.video.name](config.video, config)


def audio(config: FrozenConfigDict) -> Encoder:
    """The encoder of sound of `config.model`."""
    return AUDIO[config.audio.name](config.audio, config)


def hears(config: FrozenConfigDict) -> bool:
    """Whether the video encoder of `config.model` takes the sound in on its way (`VideoEncoder`)."""
    return getattr(VIDEO.get(config.video.name), "hears", False)  # Of a name that is not known, `check` tells.


def check(config: FrozenConfigDict) -> None:
    """Checks `config.model.video` and `config.model.audio`, before any array exists.

    Raises:
      UserError: names the key, its value and what is allowed.
    """
    for stream, known in (("video", VIDEO), ("audio", AUDIO)):
        settings = config[stream]
        name = settings.get("name")
        if name not in known:
            raise UserError(f"config.model.{stream}.name={name!r} is not known: choose one of {', '.join(known)}.")
        wanted = {"name", *ENCODERS[stream][name]}
        if set(settings) != wanted:
            raise UserError(
                f"config.model.{stream}: the encoder {name!r} has the settings {', '.join(sorted(wanted))}, not "
                f"{', '.join(sorted(settings))}. A config file changes the encoder as a whole: config.model.{stream} = "
                f'cmav.config.encoder("{stream}", "{name}").'
            )
        known[name].check(settings)
