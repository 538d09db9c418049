"""What is frozen stays as it is, parameters and statistics alike, in every network and at every depth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.errors import UserError
from cmav.tasks import make_task
from cmav.training import costs, optim, train
from cmav.training.freezing import apply_in_training
from cmav.trees import flatten, is_under
from tests import tiny_config
from tests.models import fake_variables

LAYERS = ("backbone/video_encoder/layer_0", "backbone/audio_encoder/layer_0/norm")
PARTS = ("backbone/audio_encoder", "backbone/co_attention", "head/hidden")

# What is frozen, and which outputs then come of nothing but what is frozen.
CASES = {
    LAYERS: ("video/layer_0", "audio/layer_0"),
    PARTS: ("audio/tokens",),
    ("backbone", "head"): ("video/tokens", "audio/tokens", "video/features", "audio/features", "logits"),
}


def make_config(name, remat="none"):
    config = tiny_config.get_config() if name == "avs" else tiny_config.get_action_config()
    config.model.dropout, config.model.remat = 0.5, remat
    config.action.num_classes, config.action.standardise = 4, True
    return config


@functools.cache
def variables_of(name):
    config = make_config(name)
    task = make_task(config, config.phases[0])
    return fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)))


def make_batch(task, seed, size=4):
    rng = np.random.default_rng(seed)
    batch = {
        key: rng.integers(0, 200, x.shape).astype(x.dtype) for key, x in task.batch_shapes(size).items() if x.ndim > 1
    }
    return {
        **batch,
        "has_audio": np.arange(size) > 0,
        "label": np.arange(size) % 4,
        "labels": np.tile([1.0, 0.0], (size, 1)).astype(np.float32),
    }


@functools.cache
def evaluated_by(name):
    config = make_config(name)
    task = make_task(config, config.phases[0])
    return jax.jit(functools.partial(task.apply, train=False))(variables_of(name), make_batch(task, seed=5))[0]


@pytest.mark.parametrize("frozen", CASES)
@pytest.mark.parametrize("name", ["avs", "action"])
def test_frozen_parameters_and_statistics_stay_bit_for_bit_and_the_others_move(name, frozen):
    config = make_config(name, remat="encoders" if frozen == LAYERS else "stem")
    config.optim.frozen = frozen
    task = make_task(config, config.phases[0])
    optimizer = optim.make_optimizer(config.optim, optim.make_schedule(config.optim, 10))
    variables = variables_of(name)
    items = {"params": variables["params"], "model_state": {"batch_stats": variables["batch_stats"]}}
    state = train.TrainState(jnp.int32(0), **items, opt_state=optimizer.init(items["params"]))
    step = jax.jit(functools.partial(train.train_step, task=task, optimizer=optimizer, seed=0, frozen=frozen))
    for seed in range(2):
        state, _ = step(state, make_batch(task, seed))
    for tree, after in ((items["params"], state.params), (variables["batch_stats"], state.model_state["batch_stats"])):
        before, after = flatten(tree), flatten(after)
        for path, leaf in before.items():
            if any(is_under(path, name) for name in frozen):
                np.testing.assert_array_equal(after[path], leaf, err_msg=path)
            elif not path.endswith("bias"):  # That of attention's keys is no part of what attention says.
                assert np.any(after[path] != leaf), path


@pytest.mark.parametrize(("frozen", "outputs"), CASES.items())
@pytest.mark.parametrize("name", ["avs", "action"])
def test_what_is_frozen_says_in_training_what_it_says_in_evaluation(name, frozen, outputs):
    config = make_config(name)
    task, variables = make_task(config, config.phases[0]), variables_of(name)
    batch = make_batch(task, seed=5)
    in_training = jax.jit(functools.partial(apply_in_training, task, frozen=frozen))
    trained, _ = in_training(variables, batch, dropout_key=jax.random.key(0))
    evaluated = evaluated_by(name)
    for key in outputs:
        np.testing.assert_allclose(trained[key], evaluated[key], rtol=1e-5, atol=1e-6, err_msg=key)
    if "video/tokens" not in outputs:  # What is not frozen normalises by the batch.
        assert np.abs(trained["video/tokens"] - evaluated["video/tokens"]).max() > 1e-2


def test_dropout_in_what_is_frozen_drops_nothing():
    config = make_config("avs")
    task, variables = make_task(config, config.phases[0]), variables_of("avs")
    batch = make_batch(task, seed=5)

    def features(frozen, seed):
        return apply_in_training(task, variables, batch, frozen=frozen, dropout_key=jax.random.key(seed))[0]

    for stream in ("video/features", "audio/features"):
        first, second = (features(("backbone/co_attention",), seed)[stream] for seed in range(2))
        np.testing.assert_array_equal(first, second)
        assert np.any(features((), 0)[stream] != features((), 1)[stream])


def test_no_gradient_is_computed_of_what_is_frozen():
    config = make_config("avs")
    task = make_task(config, config.phases[0])
    variables = jax.eval_shape(task.init, jax.random.key(0))
    kept = [
        costs.activation_bytes(task, variables, frozen)
        for frozen in ((), ("backbone/video_encoder/layer_0",), ("backbone/video_encoder",), ("backbone",))
    ]
    assert kept == sorted(kept, reverse=True) and len(set(kept)) == 4
    assert kept[-1] < kept[0] / 4


def test_a_rate_within_what_is_frozen_is_refused():
    config = make_config("avs")
    config.optim.frozen, config.optim.multipliers = ("backbone",), (("backbone/audio_encoder", 0.1),)
    with pytest.raises(UserError, match=r"multipliers has 'backbone/audio_encoder'.*frozen 'backbone'"):
        optim.make_optimizer(config.optim, optim.make_schedule(config.optim, 10))
    config.optim.frozen = ("backbone/video_encoder",)
    optim.make_optimizer(config.optim, optim.make_schedule(config.optim, 10))
