"""Where in a long video a short sound belongs, by what can be seen there."""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf

from cmav.data import sampling, video
from cmav.data.clip_shape import ClipShape
from cmav.errors import UserError
from cmav.media import decoding
from cmav.media.audio_track import AudioTrack
from cmav.media.streams import RejectedError
from cmav.media.windows import Spacing
from cmav.offsets.calibration import Calibration
from cmav.offsets.estimate import Reading, read
from cmav.offsets.evidence import Evidence
from cmav.offsets.stretch import HOPS_PER_CLIP
from cmav.own_videos.watch import watch
from cmav.tasks.base import Offsets
from cmav.training.frozen import FrozenNetwork

SOUNDS_AT_A_TIME = 64


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What a window is here: a clip's frames, without its sound."""

    task: Offsets

    @property
    def clip(self) -> ClipShape:
        return self.task.clip

    def only_example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """TensorFlow: `video`, uint8 [T, H, W, 3], of a parsed record."""
        frames = sampling.looped_frames(record["frames"], tf.constant(0), self.clip)
        return {"video": video.decode_clip(frames, self.task.data_config.crop_size, None, cover=self.task.cover)}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a sound belongs.

    Attributes:
      reading: of the evidence; its peak is when in the video the sound begins, in seconds from the first frame.
      evidence: of all places, whose seconds stand for shifts.
      note: what of the video was lost, and why; empty: nothing.
    """

    reading: Reading
    evidence: Evidence
    note: str

    def others(self, count: int, apart: float) -> list[float]:
        """The next best places in seconds, best first, each at least so many seconds from those before."""
        mean = np.where(
            self.evidence.coverage > 0, self.evidence.total / np.maximum(self.evidence.coverage, 1), -np.inf
        )
        found = [self.reading.peak]
        for place in self.evidence.shifts[np.argsort(-mean)]:
            if len(found) > count:
                break
            if min(abs(place - other) for other in found) >= apart:
                found.append(float(place))
        return found[1:]


def read_sound(path: str, sample_rate: int) -> np.ndarray:
    """All of a sound, int16 [samples, 2], decoded in a process that may die.

    Raises:
      UserError: where there is no sound.
    """
    worker = decoding.worker()
    try:
        pieces = list(decoding.read(worker, send_sound, path, sample_rate))
    except RejectedError as error:
        raise UserError(f"{path}: {error}.") from error
    finally:
        worker.end()
    if not pieces:
        raise UserError(f"{path}: there is no sound in it.")
    return np.concatenate(pieces)


def send_sound(path: str, sample_rate: int, *, send: Any, alive: Any) -> None:
    """In the process: see `read_sound`."""
    track = AudioTrack(path, sample_rate, None, alive)
    try:
        for piece in track.pieces(0, 60 * sample_rate):
            send(piece)
        if track.damage:
            raise RejectedError(track.damage)
    finally:
        track.close()


def find_sound(
    network: FrozenNetwork,
    sound: np.ndarray,
    videos: Sequence[Any],
    calibration: Calibration | None,
    *,
    size: int,
    batch_size: int,
    num_workers: int | None = None,
) -> list[Place | str]:
    """Finds the best place for a sound in each of some videos, or says why nothing of one can be decoded.

    Args:
      network: whose task has the ability `Offsets`.
      sound: int16 [samples, 2], at the network's sample rate, at least as long as its clip.
      videos: `cmav.media.manifest.Video`s with absolute paths.
      calibration: of the network; None: the logits are taken at their word.
      size: width and height of the pictures before the crop, in pixels.
      batch_size: windows that the network sees at a time.
      num_workers: processes that decode, each another video; None: one for each CPU core.

    Raises:
      UserError: where the sound is shorter than the network's clip, or storage does not answer.
    """
    task, clip = network.task, network.task.clip
    rate = clip.stored_frame_rate
    room = (len(sound) - clip.num_samples) / clip.sample_rate
    if room < 0:
        raise UserError(
            f"the sound lasts {len(sound) / clip.sample_rate:.3g} s, and the network listens to {clip.seconds:g} s at "
            "a time: give it a longer one."
        )
    # Starts within the sound are a frame apart, so that windows further apart still try every place.
    starts = np.arange(int(room * rate + 1e-6) + 1)
    hop = int(np.clip(len(starts), 1, max(1, clip.stored_frames // HOPS_PER_CLIP)))
    firsts = np.floor(starts * clip.sample_rate / rate + 1e-6).astype(int)
    encode = jax.jit(task.encode_sound)
    tokens = []
    for group in np.array_split(firsts, -(-len(firsts) // SOUNDS_AT_A_TIME)):
        pieces = np.stack([sound[first : first + clip.num_samples] for first in group])
        tokens.append(encode(network.variables, jnp.asarray(pieces)))
    tokens_KxMxD = jnp.concatenate(tokens)

    def answer(variables: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> jax.Array:
        pictures_BxNxD = task.encode_pictures(variables, batch["video"])
        sounds_BxKxMxD = jnp.broadcast_to(tokens_KxMxD, (len(pictures_BxNxD), *tokens_KxMxD.shape))
        return task.pair_logits(variables, pictures_BxNxD, sounds_BxKxMxD).astype(jnp.float32)

    spacing = Spacing(Fraction(hop), Fraction(0))
    how = {"size": size, "spacing": spacing, "batch_size": batch_size, "num_workers": num_workers}
    found = []
    for seen in watch(network, videos, "", answer, sees=Pictures(task), **how):
        if not seen.windows:
            found.append(seen.note)
            continue
        frames = np.round(np.array([window.start for window in seen.windows]) * rate).astype(int)
        frames, first = np.unique(frames, return_index=True)
        places_WxK = frames[:, None] - starts
        last = frames[-1] - starts[-1]  # where the sound ends with the video
        fits = (places_WxK >= 0) & (places_WxK <= last)
        if not fits.any():
            found.append(f"it is shorter than the sound of {len(sound) / clip.sample_rate:.3g} s")
            continue
        logits_WxK = np.stack([seen.answers[row] for row in first])
        counts = np.bincount(places_WxK[fits], minlength=last + 1)
        sums = np.bincount(places_WxK[fits], weights=logits_WxK[fits], minlength=last + 1)
        coverage = np.where(counts > 0, 1 + (counts - 1) * hop / clip.stored_frames, 0.0)
        evidence = Evidence(np.arange(last + 1) / rate, sums / np.maximum(counts, 1) * coverage, coverage)
        reading = read(evidence, calibration or Calibration(), 1 / clip.achieved_frame_rate)
        found.append(Place(reading, evidence, seen.note))
    return found
