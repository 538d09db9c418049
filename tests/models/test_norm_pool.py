import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from cmav.models import encoders, norm_pool
from cmav.models.batch_norm import BatchNorm
from cmav.models.encoders.layered import PoolInSpace
from cmav.models.layers import parse
from tests import tiny_config

POOL = PoolInSpace(parse([("pool", (1, 3, 3), (1, 2, 2))])[0])


class Apart(nn.Module):
    """What it is to be, one after the other."""

    @nn.compact
    def __call__(self, x, *, use_running_average):
        x = nn.relu(BatchNorm(momentum=0.9, epsilon=1e-3, name="norm")(x, use_running_average=use_running_average))
        return x, POOL(x)


class Together(nn.Module):
    @nn.compact
    def __call__(self, x, *, use_running_average):
        norm = norm_pool.NormReluPool(momentum=0.9, epsilon=1e-3, name="norm")
        return norm(x, use_running_average=use_running_average, pool=POOL)


def variables_and_input(frames, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    x = 2 * jax.random.normal(keys[0], (2, frames, 7, 6, 5)) + 1
    norm = {"scale": jax.random.normal(keys[1], (5,)), "bias": jax.random.normal(keys[2], (5,))}
    stored = {"mean": jnp.arange(5.0), "var": 1 + jnp.arange(5.0)}
    return {"params": {"norm": norm}, "batch_stats": {"norm": stored}}, x.astype(dtype)


@pytest.mark.parametrize("frames", [1, 7, 9, 14, 18])  # one frame a part, and several
def test_values_gradients_and_statistics_are_those_of_the_layers_apart(frames):
    variables, x = variables_and_input(frames)

    def run(net):
        def answer(params, x):
            out, changed = net.apply(
                {**variables, "params": params}, x, use_running_average=False, mutable=["batch_stats"]
            )
            return out, changed

        out, backward, changed = jax.vjp(answer, variables["params"], x, has_aux=True)
        cotangents = [jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape) for y in out]
        silent = jnp.zeros_like(cotangents[0])
        return out, changed, backward(tuple(cotangents)), backward((silent, cotangents[1]))

    together, apart = (jax.tree.leaves(jax.jit(run, static_argnums=0)(net)) for net in (Together(), Apart()))
    for got, want in zip(together, apart, strict=True):
        np.testing.assert_allclose(got, want, atol=3e-5)


def test_with_stored_statistics_too():
    variables, x = variables_and_input(4)
    got, want = (net.apply(variables, x, use_running_average=True) for net in (Together(), Apart()))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_in_bfloat16_it_is_as_near_to_float32_as_the_layers_apart():
    def gradients(net, dtype):
        def loss(params, x):
            variables = {"params": params, "batch_stats": stored}
            (_, y), _ = net.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
            return (y.astype(jnp.float32) ** 2).sum()

        variables, x = variables_and_input(9, dtype)
        stored = variables["batch_stats"]
        return [np.asarray(a, np.float32) for a in jax.tree.leaves(jax.grad(loss, (0, 1))(variables["params"], x))]

    exact = gradients(Apart(), jnp.float32)
    errors = [
        [np.linalg.norm(got - want) / np.linalg.norm(want) for got, want in zip(of, exact, strict=True)]
        for of in (gradients(net, jnp.bfloat16) for net in (Together(), Apart()))
    ]
    for together, apart in zip(*errors, strict=True):
        assert together < 1.5 * apart + 0.005 and apart < 0.1, errors


def test_the_backward_pass_takes_little_more_than_half_of_the_memory():
    shape = (2, 18, 32, 32, 16)

    def temporary_bytes(net):
        variables = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros(shape), use_running_average=False))

        def gradient(variables, x):
            def loss(x):
                (_, y), _ = net.apply(variables, jnp.sin(x), use_running_average=False, mutable=["batch_stats"])
                return (y**2).sum()

            return jax.grad(loss)(x).sum()

        compiled = jax.jit(gradient).lower(variables, jax.ShapeDtypeStruct(shape, jnp.float32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (4 * np.prod(shape))

    together, apart = temporary_bytes(Together()), temporary_bytes(Apart())
    assert together < 0.6 * apart, (together, apart)


def test_an_encoder_of_which_some_rows_do_not_count_keeps_them_out():
    config = FrozenConfigDict({**tiny_config.get_config().model, "remat": "stem"})
    encoder = encoders.video(config)
    frames = jax.random.randint(jax.random.key(0), (3, 4, 16, 16, 3), 0, 256).astype(jnp.uint8)
    variables = encoder.init(jax.random.key(1), frames, rate=5.0, train=False)

    def stored(frames, mask):
        _, changed = encoder.apply(variables, frames, rate=5.0, train=True, mask=mask, mutable=["batch_stats"])
        return changed["batch_stats"]

    masked, alone = stored(frames, jnp.array([True, True, False])), stored(frames[:2], None)
    for got, want in zip(*map(jax.tree.leaves, (masked, alone)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


_ON_DEVICES = """
import re
import jax, jax.numpy as jnp, numpy as np
from cmav import distributed
from cmav.models import norm_pool
from tests.models.test_norm_pool import POOL, variables_and_input

variables, x = variables_and_input(9)
norm = variables["params"]["norm"]
x = jnp.concatenate([x, x + 1])

def loss(x, scale, bias):
    return (norm_pool.norm_relu_pool(x, scale, bias, 1e-3, POOL)[0] ** 2).sum()

gradients = jax.jit(jax.grad(loss, (0, 1, 2)))
mesh = distributed.make_mesh()
assert mesh.size == 2
sharded = jax.device_put(x, distributed.batch_sharded(mesh))
rest = norm["scale"], norm["bias"]
for got, want in zip(gradients(sharded, *rest), gradients(x, *rest), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
text = gradients.lower(sharded, *rest).compile().as_text()
gathered = [shape for shape in re.findall(r"= f32\\[([\\d,]*)\\]\\S* all-gather", text)]
assert all(np.prod([int(n) for n in shape.split(",") if n]) < x.size / 8 for shape in gathered), gathered
"""


def test_on_several_devices_each_keeps_to_its_clips():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", _ON_DEVICES]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
