"""What is chosen by the platform that is compiled for. What it comes to there, tests/training/test_ahead.py says."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import FrozenConfigDict

from cmav.models import conv, pool, target
from cmav.models.encoders.base import remat


@pytest.mark.parametrize(
    ("platform", "lowering", "pool_has_own_gradient", "remat_of_auto"),
    [("gpu", "folded", False, "stem"), ("tpu", "folded", False, "none"), ("cpu", "folded_taps", True, "stem")],
)
def test_each_platform_gets_what_is_best_there(platform, lowering, pool_has_own_gradient, remat_of_auto):
    x, kernel = jnp.ones((1, 3, 4, 4, 2)), jnp.ones((3, 3, 3, 2, 5))
    with target.compiling_for(platform):
        auto = str(jax.make_jaxpr(lambda x, w: conv.conv3d(x, w, (1, 1, 1)))(x, kernel))
        pooled = str(jax.make_jaxpr(lambda x: pool.average_pool(x, (1, 3, 3), (1, 2, 2)))(x))
        assert remat(FrozenConfigDict({"remat": "auto"})) == remat_of_auto
        assert remat(FrozenConfigDict({"remat": "encoders"})) == "encoders"
    assert auto == str(jax.make_jaxpr(lambda x, w: conv.conv3d(x, w, (1, 1, 1), lowering))(x, kernel))
    assert ("custom_vjp" in pooled) == pool_has_own_gradient


def test_it_ends_with_the_block_and_is_this_backend_outside():
    with pytest.raises(RuntimeError), target.compiling_for("tpu"):
        assert target.backend() == "tpu"
        raise RuntimeError
    assert target.backend() == jax.default_backend()
