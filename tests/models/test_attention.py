import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from cmav.models.attention import MultiHeadAttention, TransformerBlock
from tests.models import fake_variables, reference

SIZE = 12
CONFIG = ConfigDict(dict(num_heads=3, mlp_size=20, dropout=0.0, dtype="float32"))


def _tokens(num_queries=5, num_context=7):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, num_queries, SIZE)), rng.normal(size=(2, num_context, SIZE))


def _params(module, *args, **kwargs):
    return fake_variables.draw(jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs)))["params"]


def _float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def test_attention_agrees_with_numpy_float64():
    queries, context = _tokens()
    module = MultiHeadAttention(num_heads=3, dtype=jnp.float32)
    params = _params(module, queries, context)
    attended, weights = module.apply({"params": params}, queries, context)
    assert weights.shape == (2, 3, 5, 7)
    for clip in range(2):
        want, want_weights = reference.attention(queries[clip], context[clip], _float64(params), num_heads=3)
        np.testing.assert_allclose(attended[clip], want, atol=1e-4)
        np.testing.assert_allclose(weights[clip], want_weights, atol=1e-5)


@pytest.mark.parametrize("is_self_attention", [True, False])
def test_block_agrees_with_numpy_float64(is_self_attention):
    queries, context = _tokens()
    context = queries if is_self_attention else context
    block = TransformerBlock(FrozenConfigDict(CONFIG))
    params = _params(block, queries, context, train=False)
    tokens, weights = block.apply({"params": params}, queries, context, train=False)
    for clip in range(2):
        want, want_weights = reference.transformer_block(queries[clip], context[clip], _float64(params), num_heads=3)
        np.testing.assert_allclose(tokens[clip], want, atol=1e-4)
        np.testing.assert_allclose(weights[clip], want_weights, atol=1e-5)


def test_gradient_agrees_with_finite_differences_of_numpy_float64():
    queries, context = _tokens()
    block = TransformerBlock(FrozenConfigDict(CONFIG))
    params = _params(block, queries, context, train=False)
    probe = np.random.default_rng(1).normal(size=queries.shape)

    def loss(params, queries, context):
        return (block.apply({"params": params}, queries, context, train=False)[0] * probe).sum()

    def reference_loss(params, queries, context):
        blocks = [
            reference.transformer_block(q, c, params, num_heads=3)[0] for q, c in zip(queries, context, strict=True)
        ]
        return (np.stack(blocks) * probe).sum()

    args = _float64((params, queries, context))
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, *map(jnp.float32, (queries, context)))
    gradient = _float64(gradient)
    rng = np.random.default_rng(2)
    for i, leaf in enumerate(jax.tree.leaves(args)):
        direction = rng.normal(size=leaf.shape)

        def shifted(step, i=i, direction=direction):
            leaves, tree = jax.tree.flatten(args)
            leaves[i] = leaves[i] + step * direction
            return reference_loss(*tree.unflatten(leaves))

        slope = (shifted(1e-5) - shifted(-1e-5)) / 2e-5
        np.testing.assert_allclose((jax.tree.leaves(gradient)[i] * direction).sum(), slope, rtol=1e-3, atol=2e-3)


def test_dropout_acts_in_training_only():
    queries, context = _tokens()
    config = ConfigDict(CONFIG)
    config.dropout = 0.5
    block = TransformerBlock(FrozenConfigDict(config))
    params = _params(block, queries, context, train=False)

    def run(train, seed):
        return block.apply({"params": params}, queries, context, train=train, rngs={"dropout": jax.random.key(seed)})[0]

    np.testing.assert_array_equal(run(False, 0), run(False, 1))
    assert jnp.abs(run(True, 0) - run(True, 1)).max() > 0.1
