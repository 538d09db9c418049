"""What is float32 is multiplied in float32, on GPU and TPU as well: read from what JAX hands to the compiler."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.evals import localization_evaluator
from cmav.localization.task import LocalizationTask
from cmav.models import maps
from cmav.models.alignment import alignment_loss
from cmav.tasks import make_task
from tests import tiny_config

MAP = jax.ShapeDtypeStruct((2, 3, 4, 5, 6), jnp.float32)


def products(function, *args):
    """The matrix products of a function: whether each has a float32 operand, and its line in StableHLO."""
    text = jax.jit(function).lower(*args).as_text()
    lines = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    return [("xf32>" in re.search(r" : \((.*)\) -> ", line)[1], line) for line in lines]


def assert_exact(lines, at_least=1):
    assert len(lines) >= at_least
    for line in lines:
        assert "precision = [HIGHEST, HIGHEST]" in line, line


def task_of(config):
    config.model.dtype = "bfloat16"
    if config.task == "action":
        config.action.num_classes = 3
    return make_task(config, config.phases[-1])


@functools.cache
def localization_task():
    """The task, shapes of its variables and a batch."""
    localization = LocalizationTask.of(task_of(tiny_config.get_config()), size=16)
    task = localization.of_network
    shapes = task.batch_shapes(2)
    audio = shapes["audio"]
    shapes["audio"] = jax.ShapeDtypeStruct((audio.shape[0], *audio.shape[2:]), audio.dtype)
    batch = {**shapes, "file": jax.ShapeDtypeStruct((2,), jnp.int64)}
    batch |= {"mask": jax.ShapeDtypeStruct((2,), jnp.float32)}
    return localization, jax.eval_shape(task.init, jax.random.key(0)), batch


@pytest.mark.parametrize("method", ["attention", "similarity", "alignment"])
def test_maps(method):
    """With what the evaluator makes of them. The network itself computes in bfloat16, with the gradient of `cam`."""
    of_network, variables, batch = localization_task()
    answer = functools.partial(localization_evaluator._answer, task=of_network, methods=(method,))
    found = products(answer, variables, batch)
    assert any(not is_float32 for is_float32, _ in found)
    assert_exact([line for is_float32, line in found if is_float32], at_least=2)


def test_class_activation_and_enlarging():
    def activation(x):
        return maps.class_activation(lambda x: jnp.tanh(x).sum(axis=(1, 2, 3)), x)

    for function in (activation, functools.partial(maps.upsample, size=(9, 11))):
        assert_exact([line for _, line in products(function, MAP)])


def test_alignment_loss_and_its_gradient():
    tokens = [jax.ShapeDtypeStruct((2, count, 8), jnp.bfloat16) for count in (3, 5)]

    def loss(video, audio):
        return alignment_loss(video, audio, np.arange(3.0), np.arange(5.0), 0.1).sum()

    assert_exact([line for _, line in products(jax.grad(loss, argnums=(0, 1)), *tokens)], at_least=3)


@pytest.mark.parametrize("get_config", [tiny_config.get_config, tiny_config.get_action_config])
def test_logits(get_config):
    """Whatever is float32 in a network that computes in bfloat16."""
    task = task_of(get_config())
    variables = jax.eval_shape(task.init, jax.random.key(0))

    def logits(variables, batch):
        return task.apply(variables, batch, train=False)[0]["logits"]

    found = products(logits, variables, task.batch_shapes(2))
    assert_exact([line for is_float32, line in found if is_float32])
    assert any(not is_float32 for is_float32, _ in found)
