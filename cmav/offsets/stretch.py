"""The network's side of offsets: a stretch of a video in, the logits of its windows with sounds of many shifts out.

A stretch is longer than the network's clip. Windows of pictures lie a hop apart in it; sounds, as long as a window,
start on a finer grid. Each of them is encoded once. Then each window is paired with the sounds that start up to the
greatest shift before and after it, which takes only co-attention and head.

A shift is in seconds, and positive where the sound comes from later in the file than the picture. So where a window's
logit is greatest at a shift of 0.12 s, the file's sound is 120 ms late.

Shape suffixes: B stretches, F stored frames, W windows, S shifts from the earliest sound to the latest, G sounds.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf

from cmav.data import video as video_frames
from cmav.data.clip_shape import ClipShape
from cmav.errors import UserError
from cmav.models import loudness
from cmav.tasks.base import Offsets

SOUNDS_AT_A_TIME = 8
HOPS_PER_CLIP = 8
MOTION_PIXELS = 8


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Which windows of a stretch are paired with which sounds, for the network of a task.

    Attributes:
      task: whose network it is.
      num_frames: length of a stretch, in stored frames.
      hop: from a window to the next, in stored frames.
      steps_per_frame: shifts within a stored frame.
      max_shift: the greatest shift, in steps.
    """

    task: Offsets
    num_frames: int
    hop: int
    steps_per_frame: int
    max_shift: int

    @classmethod
    def of(
        cls,
        task: Offsets,
        *,
        max_seconds: float,
        step_seconds: float | None = None,
        hop_seconds: float | None = None,
        num_frames: int | None = None,
    ) -> Self:
        """Of a task.

        Args:
          task: whose network is asked.
          max_seconds: the greatest shift to either side.
          step_seconds: from a shift to the next, rounded to a stored frame or a whole fraction of it; None: a frame.
          hop_seconds: from a window to the next, rounded to whole stored frames; None: an eighth of the clip.
          num_frames: length of a stretch, in stored frames; None: so many that of a long video, taken in stretches that
            overlap, no more than a third is encoded twice.

        Raises:
          UserError: where the greatest shift is less than a step.
        """
        clip = task.clip
        frame = 1 / clip.stored_frame_rate
        steps_per_frame = max(1, round(frame / step_seconds)) if step_seconds else 1
        hop = max(1, round((hop_seconds or clip.stored_frames * frame / HOPS_PER_CLIP) / frame))
        max_shift = math.floor(max_seconds / frame * steps_per_frame + 1e-6)
        if max_shift < 1:
            raise UserError(
                f"a greatest shift of {max_seconds:g} s is less than a step, {frame / steps_per_frame:.3g} s."
            )
        margins = clip.stored_frames + 2 * math.ceil(max_shift / steps_per_frame)
        return cls(task, num_frames or 3 * margins, hop, steps_per_frame, max_shift)

    @property
    def clip(self) -> ClipShape:
        """A stretch as a clip of stored frames."""
        clip = self.task.clip
        return ClipShape(
            self.num_frames / clip.stored_frame_rate, clip.stored_frame_rate, clip.stored_frame_rate, clip.sample_rate
        )

    @property
    def span(self) -> int:
        """Stored frames of a window."""
        return self.task.clip.stored_frames

    @property
    def margin(self) -> int:
        """Stored frames that a window needs before and after it for every shift."""
        return math.ceil(self.max_shift / self.steps_per_frame)

    @property
    def advance(self) -> int:
        """Stored frames from a stretch to the next, so that windows which have every shift follow without a gap."""
        return self.num_frames - self.span - 2 * self.margin

    @property
    def step_seconds(self) -> float:
        return 1 / (self.task.clip.stored_frame_rate * self.steps_per_frame)

    @property
    def shifts(self) -> np.ndarray:
        """float64 [S], seconds."""
        return np.arange(-self.max_shift, self.max_shift + 1) * self.step_seconds

    @property
    def starts(self) -> np.ndarray:
        """First stored frame of each window, int [W]."""
        return np.arange(0, self.num_frames - self.span + 1, self.hop)

    @property
    def num_samples(self) -> int:
        """Samples of a stretch: those of its frames, and what rounding adds to its last sound."""
        return max(self.first_sample(self.num_frames), int(self._sound_samples[-1]) + self.task.clip.num_samples)

    def first_sample(self, frame: int) -> int:
        """The sample of the same instant as a stored frame, as the record contract has it."""
        return math.floor(frame * self.task.clip.sample_rate / self.task.clip.stored_frame_rate + 1e-6)

    @property
    def _sound_samples(self) -> np.ndarray:
        """First sample of each sound, int [G]."""
        numbers = np.arange((self.num_frames - self.span) * self.steps_per_frame + 1)
        return np.floor(numbers * self.step_seconds * self.task.clip.sample_rate + 1e-6).astype(int)

    def only_example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """TensorFlow: of a parsed record of at most `num_frames` frames, as `make` has it."""
        return self.make(record["frames"], record["audio"])

    def make(self, jpegs: Any, audio: Any) -> dict[str, Any]:
        """TensorFlow: an example of at most `num_frames` frames, string [n], and as much sound, int16 [samples, 2].

        Returns:
          `video`, uint8 [F, H, W, 3], the last frame repeated; `audio`, int16 [samples, 2], zeros at its end; and
          `num_frames`, int32: how many are real.
        """
        jpegs, audio = jpegs[: self.num_frames], audio[: self.num_samples]
        num_frames = tf.shape(jpegs)[0]
        frames = video_frames.decode_clip(jpegs, self.task.data_config.crop_size, None, cover=self.task.cover)
        frames = tf.gather(frames, tf.minimum(tf.range(self.num_frames), num_frames - 1))
        audio = tf.pad(audio, [[0, self.num_samples - tf.shape(audio)[0]], [0, 0]])
        return {
            "video": frames,
            "audio": tf.ensure_shape(audio, [self.num_samples, 2]),
            "num_frames": num_frames,
        }

    def scores(self, variables: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """What the network says of a batch of stretches, made by `make`.

        What lies after the longest one's end takes no time.

        Returns:
          `logits`, float32 [B, W, S]: for "in sync"; NaN where the window, or its sound, is not wholly in the video.
          `motion`, float32 [B, W]: how much a window's pictures change from one to the next, in grey levels: the mean
          over time of that square of 8 x 8 pixels which changes most. `loudness`, float32 [B, W]: of the loudest 50 ms
          of a window's own sound, in dB of full scale (`cmav.models.loudness`).
        """
        clip, per_frame = self.task.clip, self.steps_per_frame
        video, audio, num_frames_B = batch["video"], batch["audio"], batch["num_frames"]
        size = len(video)
        starts_W, shifts_S = jnp.asarray(self.starts), jnp.arange(-self.max_shift, self.max_shift + 1)
        room = jnp.maximum(num_frames_B.max() - self.span, -1)  # starts that fit into the longest, less one

        def sound(first_A: jax.Array) -> jax.Array:
            """int16 [A, B, samples, 2]"""
            return jax.vmap(lambda first: jax.lax.dynamic_slice_in_dim(audio, first, clip.num_samples, 1))(first_A)

        sound_samples = self._sound_samples
        num_sounds = len(sound_samples)
        padding = -num_sounds % SOUNDS_AT_A_TIME
        first_samples = jnp.asarray(np.pad(sound_samples, (0, padding), mode="edge"))

        def encode_sounds(chunk: jax.Array, tokens: jax.Array) -> jax.Array:
            first_A = jax.lax.dynamic_slice_in_dim(first_samples, chunk * SOUNDS_AT_A_TIME, SOUNDS_AT_A_TIME)
            pieces = sound(first_A)
            found = self.task.encode_sound(variables, pieces.reshape(-1, *pieces.shape[2:]))
            found = jnp.moveaxis(found.reshape(SOUNDS_AT_A_TIME, size, *found.shape[1:]), 0, 1)
            return jax.lax.dynamic_update_slice_in_dim(tokens, found, chunk * SOUNDS_AT_A_TIME, 1)

        one = jax.eval_shape(
            lambda x: self.task.encode_sound(variables, x),
            jax.ShapeDtypeStruct((size, clip.num_samples, 2), audio.dtype),
        )
        tokens_BxGxMxD = jnp.zeros((size, num_sounds + padding, *one.shape[1:]), one.dtype)
        num_chunks = (room * per_frame + 1 + SOUNDS_AT_A_TIME - 1) // SOUNDS_AT_A_TIME
        tokens_BxGxMxD = jax.lax.fori_loop(0, num_chunks, encode_sounds, tokens_BxGxMxD)

        def look(window: jax.Array, found: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            start = starts_W[window]
            frames = jax.lax.dynamic_slice_in_dim(video, start, self.span, 1)
            pictures = self.task.encode_pictures(variables, frames[:, :: clip.stride])
            numbers_S = jnp.clip(start * per_frame + shifts_S, 0, num_sounds - 1)
            logits_BxS = self.task.pair_logits(variables, pictures, tokens_BxGxMxD[:, numbers_S])
            own = sound(first_samples[start * per_frame][None])[0]
            loudest = loudness.levels(own, clip.sample_rate).max(axis=1)
            new = (logits_BxS.astype(jnp.float32), _motion(frames), loudest)
            return tuple(x.at[:, window].set(one) for x, one in zip(found, new, strict=True))

        empty = (
            jnp.full((size, len(starts_W), len(shifts_S)), jnp.nan),
            jnp.zeros((size, len(starts_W))),
            jnp.full((size, len(starts_W)), loudness.LEAST_DBFS),
        )
        logits, motion, loudest = jax.lax.fori_loop(0, room // self.hop + 1, look, empty)

        last_B = num_frames_B - self.span  # the last start that fits
        numbers_WxS = starts_W[:, None] * per_frame + shifts_S
        heard = (numbers_WxS >= 0) & (numbers_WxS <= per_frame * last_B[:, None, None])
        fits_BxW = starts_W <= last_B[:, None]
        return {
            "logits": jnp.where(heard & fits_BxW[:, :, None], logits, jnp.nan),
            "motion": jnp.where(fits_BxW, motion, 0),
            "loudness": jnp.where(fits_BxW, loudest, loudness.LEAST_DBFS),
        }


def _motion(frames_BxFxHxWx3: jax.Array) -> jax.Array:
    side = min(MOTION_PIXELS, *frames_BxFxHxWx3.shape[2:4])
    rows, columns = (length // side for length in frames_BxFxHxWx3.shape[2:4])
    x = frames_BxFxHxWx3[:, :, : rows * side, : columns * side].astype(jnp.float32)
    x = x.reshape(*x.shape[:2], rows, side, columns, side, 3).mean(axis=(3, 5, 6))
    return jnp.abs(x[:, 1:] - x[:, :-1]).max(axis=(2, 3)).mean(axis=1)
