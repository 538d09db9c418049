import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.models import alignment

alignment_loss = jax.jit(alignment.alignment_loss, static_argnames="temperature")

VIDEO_TIMES = np.array([0.2, 0.9, 1.9])
AUDIO_TIMES = np.array([0.0, 0.5, 1.0, 1.5, 2.0])


def reference(video, audio, video_times, audio_times, temperature):
    """One clip at a time, in plain loops and float64."""

    def cross_entropy(scores, positive):
        return np.log(np.sum(np.exp(scores - scores.max()))) + scores.max() - scores[positive]

    losses = []
    for v, a in zip(video, audio, strict=True):
        v = v / np.linalg.norm(v, axis=-1, keepdims=True)
        a = a / np.linalg.norm(a, axis=-1, keepdims=True)
        of_video = [
            cross_entropy(np.array([v[i] @ x for x in a]) / temperature, np.argmin(abs(audio_times - time)))
            for i, time in enumerate(video_times)
        ]
        of_audio = [
            cross_entropy(np.array([a[j] @ x for x in v]) / temperature, np.argmin(abs(video_times - time)))
            for j, time in enumerate(audio_times)
        ]
        losses.append((np.mean(of_video) + np.mean(of_audio)) / 2)
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_agrees_with_numpy_float64(temperature):
    rng = np.random.default_rng(0)
    video, audio = rng.normal(size=(4, 3, 8)), rng.normal(size=(4, 5, 8))
    loss = alignment_loss(jnp.float32(video), jnp.float32(audio), VIDEO_TIMES, AUDIO_TIMES, temperature)
    assert loss.shape == (4,) and loss.dtype == jnp.float32
    expected = reference(video, audio, VIDEO_TIMES, AUDIO_TIMES, temperature)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_gradient_agrees_with_finite_differences_of_numpy_float64():
    rng = np.random.default_rng(1)
    video, audio = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 5, 8))
    direction = rng.normal(size=video.shape)

    @jax.grad
    def gradient_of(video):
        return alignment_loss(video, jnp.float32(audio), VIDEO_TIMES, AUDIO_TIMES, 0.3).sum()

    gradient = gradient_of(jnp.float32(video))
    up, down = (
        reference(video + step * direction, audio, VIDEO_TIMES, AUDIO_TIMES, 0.3).sum() for step in (1e-5, -1e-5)
    )
    np.testing.assert_allclose((gradient * direction).sum(), (up - down) / 2e-5, rtol=1e-3)


def test_aligned_tokens_cost_less_than_shifted_ones():
    tokens = jnp.eye(4)[None]
    times = np.arange(4.0)
    aligned = alignment_loss(tokens, tokens, times, times, 0.1)
    shifted = alignment_loss(tokens, jnp.roll(tokens, 1, axis=1), times, times, 0.1)
    assert aligned[0] < 0.01 and shifted[0] > 5


def test_a_silent_token_has_a_gradient_that_points_to_its_own_moment():
    """It is a direction, for a token of length 0: towards the audio of its time, away from the other's."""
    audio = jnp.eye(4)[None, :2]
    gradient = jax.grad(lambda v: alignment_loss(v, audio, np.arange(2), np.arange(2), 0.1).sum())(jnp.zeros((1, 2, 4)))
    # Of each token 1 / (2 · 0.1 · √ε) · (1/2 + 1/2) / 2 of its own audio's axis, and as much of the other's, reversed.
    size = 0.5 * (1 / 2 + 1 / 2) / 2 / 0.1 / alignment.NORM_EPSILON**0.5
    np.testing.assert_allclose(gradient[0], [[-size, size, 0, 0], [size, -size, 0, 0]], rtol=1e-4)


def test_bfloat16_tokens_are_compared_in_float32():
    rng = np.random.default_rng(2)
    video, audio = (jnp.asarray(rng.normal(size=(2, n, 8)), jnp.bfloat16) for n in (3, 5))
    loss = alignment_loss(video, audio, VIDEO_TIMES, AUDIO_TIMES, 0.1)
    expected = reference(*(np.asarray(x, np.float64) for x in (video, audio)), VIDEO_TIMES, AUDIO_TIMES, 0.1)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_evidence_of_each_of_a_clips_sounds_is_what_chance_would_cost_less_the_loss():
    rng = np.random.default_rng(3)
    video, audio = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 4, 5, 8))
    tokens = jnp.float32(video)[:, None], jnp.float32(audio)
    found = alignment.moment_evidence(*tokens, VIDEO_TIMES, AUDIO_TIMES, 0.3)
    assert found.shape == (2, 4) and found.dtype == jnp.float32
    for k in range(4):
        loss = reference(video, audio[:, k], VIDEO_TIMES, AUDIO_TIMES, 0.3)
        np.testing.assert_allclose(found[:, k], (np.log(3) + np.log(5)) / 2 - loss, rtol=1e-4, atol=1e-5)


def test_what_does_not_change_speaks_for_no_moment():
    rng = np.random.default_rng(4)
    video, audio = jnp.float32(rng.normal(size=(2, 50, 5, 8)))

    def evidence(video, audio):
        return alignment.moment_evidence(video, audio, AUDIO_TIMES + 0.1, AUDIO_TIMES, 0.3)

    still, silent = jnp.ones_like(video), jnp.ones_like(audio)
    np.testing.assert_allclose(evidence(still, silent), 0, atol=1e-5)
    np.testing.assert_allclose(evidence(video, 0 * silent), 0, atol=1e-5)
    assert evidence(still, audio).max() < 0 and evidence(video, silent).max() < 0
    assert 0.5 < evidence(jnp.eye(5)[None], jnp.eye(5)[None]) < np.log(5)
