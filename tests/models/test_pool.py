import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.models.pool import average_pool
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
