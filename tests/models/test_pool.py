import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.models.pool import average_pool
from tests.models import reference


@pytest.mark.parametrize(
    ("axes", "kernel", "strides"),
    [
        ((3, 8, 7), (1, 3, 3), (1, 2, 2)),  # the video's
        ((22,), (4,), (4,)),  # the audio's
        ((8,), (3,), (3,)),
        ((9,), (2,), (3,)),  # some inputs in no window
        ((7,), (5,), (2,)),  # some in three
        ((4,), (1,), (1,)),
        ((2,), (7,), (1,)),  # a window longer than the axis
    ],
)
def test_value_and_gradient_agree_with_plain_loops(axes, kernel, strides):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *axes, 3))
    y = reference.average_pool(x, kernel, strides)
    dy = rng.normal(size=y.shape)
    got, backward = jax.vjp(lambda x: average_pool(x, kernel, strides), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, y, atol=1e-5)
    (dx,) = backward(jnp.asarray(dy, jnp.float32))
    np.testing.assert_allclose(dx, reference.average_pool_gradient(x, kernel, strides, dy), atol=1e-5)


def test_the_dtype_is_kept():
    assert average_pool(jnp.ones((1, 6, 2), jnp.bfloat16), (3,), (2,)).dtype == jnp.bfloat16
