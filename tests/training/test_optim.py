"""Schedules and the optimizer against sums done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmav import config as cmav_config
from cmav.errors import UserError
from cmav.training.optim import make_optimizer, make_schedule


def optim_config(**settings):
    config = cmav_config.get_default().optim
    config.update(settings)
    return config


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (dict(schedule="constant"), {0: 0.01, 999: 0.01}),
        (dict(schedule="constant", warmup_steps=10), {0: 0.0, 5: 0.005, 10: 0.01, 500: 0.01}),
        (dict(schedule="cosine"), {0: 0.01, 500: 0.005, 1000: 0.0}),
        (dict(schedule="cosine", warmup_steps=200), {100: 0.005, 200: 0.01, 600: 0.005, 1000: 0.0}),
        (dict(schedule="halving", halve_every=300), {299: 0.01, 300: 0.005, 600: 0.0025}),
    ],
)
def test_schedules(settings, expected):
    schedule = make_schedule(optim_config(**settings), total_steps=1000)
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-8)


def test_sgd_is_momentum_with_l2_on_kernels():
    config = optim_config(learning_rate=0.1, momentum=0.9, weight_decay=0.5)
    optimizer = make_optimizer(config, make_schedule(config, 10))
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
    grads = {"kernel": jnp.array([[0.5, 0.25]]), "bias": jnp.array([1.0])}
    state = optimizer.init(params)
    kernel, bias = np.array([[1.0, -2.0]]), np.array([3.0])
    kernel_velocity, bias_velocity = 0.0, 0.0
    for _ in range(3):
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        kernel_velocity = 0.9 * kernel_velocity + np.array([[0.5, 0.25]]) + 0.5 * kernel
        bias_velocity = 0.9 * bias_velocity + 1.0
        kernel, bias = kernel - 0.1 * kernel_velocity, bias - 0.1 * bias_velocity
    np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-6)
    np.testing.assert_allclose(params["bias"], bias, rtol=1e-6)


def test_clipping_bounds_the_step():
    config = optim_config(learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=5.0)
    optimizer = make_optimizer(config, make_schedule(config, 10))
    params = {"kernel": jnp.zeros((2, 2))}
    updates, _ = optimizer.update({"kernel": jnp.full((2, 2), 100.0)}, optimizer.init(params), params)
    assert float(optax.global_norm(updates)) == pytest.approx(5.0, rel=1e-5)


@pytest.mark.parametrize("settings", [dict(schedule="cosin"), dict(name="lion")])
def test_unknown_names_are_explained(settings):
    config = optim_config(**settings)
    with pytest.raises(UserError, match="choose"):
        make_optimizer(config, make_schedule(config, 10))


def test_subtrees_have_their_own_rates():
    config = optim_config(
        name="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.5,
        frozen=("backbone/audio",), multipliers=(("backbone", 0.1), ("head", 2.0)), head_warmup_steps=2,
    )  # fmt: skip
    optimizer = make_optimizer(config, make_schedule(config, 10))
    params = {"backbone": {"video": jnp.ones((1, 1)), "audio": jnp.ones((1, 1)), "audio_norm": jnp.ones(1)},
              "head": jnp.ones(1), "rest": jnp.ones(1)}  # fmt: skip
    grads = jax.tree.map(jnp.ones_like, params)
    state = optimizer.init(params)
    steps = []
    for _ in range(3):
        updates, state = optimizer.update(grads, state, params)
        steps.append(jax.tree.map(lambda x: round(float(x.sum()), 5), updates))
    for step in steps[:2]:
        assert step == {"backbone": {"video": 0, "audio": 0, "audio_norm": 0}, "head": -2, "rest": 0}
    # Matrices decay, by half of what they are; what is frozen does not even do that.
    assert steps[2] == {"backbone": {"video": -0.15, "audio": 0, "audio_norm": -0.1}, "head": -2, "rest": -1}


@pytest.mark.parametrize(
    "settings", [dict(frozen=("backbon",)), dict(multipliers=(("head/x", 2.0),)), dict(head_warmup_steps=3)]
)
def test_a_subtree_that_is_not_there_is_named(settings):
    config = optim_config(**settings)
    with pytest.raises(UserError, match=r"backbon|head"):
        make_optimizer(config, make_schedule(config, 10)).init({"backbone": {"fc": jnp.ones(1)}})
