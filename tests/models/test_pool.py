import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.models.pool import average_pool, max_of_parts, max_pool
from tests.models import reference


@pytest.mark.parametrize(
    ("axes", "kernel", "strides", "dilation"),
    [
        ((3, 8, 7), (1, 3, 3), (1, 2, 2), None),  # the video's
        ((22,), (4,), (4,), None),  # the audio's
        ((8,), (3,), (3,), None),
        ((9,), (2,), (3,), None),  # some inputs in no window
        ((7,), (5,), (2,), None),  # some in three
        ((4,), (1,), (1,), None),
        ((2,), (7,), (1,), None),  # a window longer than the axis
        ((4, 8, 7), (2, 3, 3), (2, 1, 1), (1, 2, 2)),
        ((9,), (4,), (1,), (2,)),
        ((3,), (3,), (1,), (4,)),  # all but the middle of each window outside
    ],
)
def test_value_and_gradient_agree_with_plain_loops(axes, kernel, strides, dilation):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *axes, 3))
    y = reference.average_pool(x, kernel, strides, dilation)
    dy = rng.normal(size=y.shape)

    @jax.jit
    def value_and_gradient(x, dy):
        y, backward = jax.vjp(lambda x: average_pool(x, kernel, strides, dilation), x)
        return y, *backward(dy)

    got, dx = value_and_gradient(jnp.asarray(x, jnp.float32), jnp.asarray(dy, jnp.float32))
    np.testing.assert_allclose(got, y, atol=1e-5)
    np.testing.assert_allclose(dx, reference.average_pool_gradient(x, kernel, strides, dy, dilation), atol=1e-5)


@pytest.mark.parametrize("sizes", [((3,), (2,)), ((3,), (1,), (2,))])
def test_the_dtype_is_kept(sizes):
    assert average_pool(jnp.ones((1, 6, 2), jnp.bfloat16), *sizes).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("axes", "kernel", "strides", "dilation"),
    [
        ((3, 8, 7), (1, 3, 3), (1, 2, 2), None),
        ((8,), (4,), (4,), None),
        ((4, 8, 7), (1, 3, 3), (1, 1, 1), (1, 2, 2)),
    ],
)
def test_maxima_agree_with_plain_loops(axes, kernel, strides, dilation):
    x = np.random.default_rng(0).normal(size=(2, *axes, 3)).astype(np.float32) - 5  # zeros would be the greatest
    got = max_pool(x, kernel, strides, dilation)
    for out, taps in reference.windows(axes, kernel, strides, dilation):
        np.testing.assert_array_equal(got[:, *out], np.max([x[:, *index] for _, index in taps], axis=0))
    assert max_pool(jnp.asarray(x, jnp.bfloat16), kernel, strides, dilation).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("length", "parts"),
    [(5, [[0, 1], [2, 3, 4]]), (7, [[0, 1], [2, 3], [4, 5, 6]]), (3, [[0], [1], [2]]), (2, [[0], [0], [1], [1]])],
)
def test_maxima_of_parts_and_their_gradient(length, parts):
    x = np.random.default_rng(0).normal(size=(2, length, 3)).astype(np.float32)

    def values(x):
        return max_of_parts(x, len(parts))

    got, backward = jax.vjp(values, jnp.asarray(x))
    np.testing.assert_array_equal(got, np.stack([x[:, part].max(axis=1) for part in parts], axis=1))
    (dx,) = backward(jnp.ones_like(got))
    expected = np.zeros_like(x)
    for part in parts:
        best = np.array(part)[x[:, part].argmax(axis=1)]  # [2, 3]
        np.add.at(expected, (np.arange(2)[:, None], best, np.arange(3)), 1)
    np.testing.assert_allclose(dx, expected, atol=1e-6)
