"""A network without weights that hears beeps and sees flashes, to test offsets with: it correlates them."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.data.clip_shape import ClipShape
from cmav.tasks.base import ClipTask, Offsets
from tests import tiny_config

TICKS_PER_FRAME = 4  # what the ear resolves


@dataclasses.dataclass(frozen=True)
class FakeSync(ClipTask):
    """Tokens are the brightness of each frame, and the loudness of each quarter of a frame."""

    abilities = frozenset({Offsets})

    def encode_pictures(self, variables, video):
        return video.astype(jnp.float32).mean(axis=(2, 3, 4))[..., None]

    def encode_sound(self, variables, audio):
        ticks = self.clip.num_frames * TICKS_PER_FRAME
        size = audio.shape[1] // ticks
        power = jnp.abs(audio[:, : ticks * size].astype(jnp.float32)).reshape(len(audio), ticks, -1).mean(axis=-1)
        return power[..., None]

    def pair_logits(self, variables, pictures, sounds):
        # A picture is of its instant, and what is heard around that instant belongs to it.
        sounds = jnp.pad(sounds[..., 0], [(0, 0), (0, 0), (TICKS_PER_FRAME // 2, 0)])[..., : -(TICKS_PER_FRAME // 2)]
        sounds = sounds.reshape(*sounds.shape[:2], -1, TICKS_PER_FRAME).mean(axis=-1)
        both = (_standard(pictures[..., 0])[:, None] * _standard(sounds)).mean(axis=-1)
        return 12 * both - 4


def _standard(x):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / jnp.maximum(jnp.sqrt((x**2).mean(axis=-1, keepdims=True)), 1e-3)


def make_task(frame_rate=20.0, seconds=1.0, sample_rate=8000, crop_size=16):
    data = tiny_config.get_config().data
    data.crop_size, data.clip_seconds = crop_size, seconds
    data.stored_frame_rate, data.sample_rate = frame_rate, sample_rate
    clip = ClipShape(seconds, frame_rate, frame_rate, sample_rate)
    return FakeSync(FrozenConfigDict(data), FrozenConfigDict(), FrozenConfigDict(), clip)


def make_network(task=None):
    """As `cmav.training.frozen.load` gives it."""
    from cmav import distributed
    from cmav.training.frozen import FrozenNetwork

    return FrozenNetwork(task or make_task(), {}, distributed.make_mesh(), "fake_run", 7, ())


def make_state():
    return types.SimpleNamespace(params={}, model_state={}, step=7)


def events(seconds, seed=0, per_second=2.0):
    """Moments of flashes and beeps, at least 0.15 s apart."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.1, seconds - 0.2, int(per_second * seconds) + 1))
    return times[np.concatenate([[True], np.diff(times) > 0.15])]


def batch_of(stretch, num_frames, moments, late, *, silent=False, still=False):
    """A batch of one stretch whose flashes are at `moments`, and its beeps `late` seconds later."""
    clip, size = stretch.task.clip, stretch.task.data_config.crop_size
    times = np.arange(stretch.num_frames) / clip.stored_frame_rate
    lit = np.any([(times >= moment) & (times < moment + 0.1) for moment in moments], axis=0) & (not still)
    video = np.full((1, stretch.num_frames, size, size, 3), 20, np.uint8) + 200 * lit[None, :, None, None, None]
    ticks = np.arange(stretch.num_samples) / clip.sample_rate - late
    heard = np.any([(ticks >= moment) & (ticks < moment + 0.1) for moment in moments], axis=0) & (not silent)
    tone = 9000 * np.sin(2 * np.pi * 600 * ticks) * heard
    audio = np.repeat(tone.astype(np.int16)[:, None], 2, axis=1)[None]
    video[:, num_frames:], audio[:, stretch.first_sample(num_frames) :] = 0, 0
    return {
        "video": jnp.asarray(video.astype(np.uint8)),
        "audio": jnp.asarray(audio),
        "num_frames": jnp.asarray([num_frames], jnp.int32),
    }


def scores_of(stretch, batch):
    """Scores of the only stretch of a batch."""
    from cmav.offsets.evidence import Scores

    found = jax.device_get(jax.jit(lambda batch: stretch.scores({}, batch))(batch))
    rate = stretch.task.clip.stored_frame_rate
    rows = {name: found[name][0] for name in ("logits", "motion", "loudness")}
    return Scores(stretch.starts / rate, stretch.span / rate, stretch.shifts, **rows)
