"""Multi-head attention and the transformer block around it, which both self- and cross-attention are.

"Look, Listen, and Attend" (2020), equations 1 and 2 and Figure 3.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict


class MultiHeadAttention(nn.Module):
    """softmax(Q K' / sqrt(d)) V for each head, concatenated and projected; d is the size of a head."""

    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, queries_BxQxD: jax.Array, context_BxKxD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the attended values [B, Q, D], and the weights float32 [B, heads, Q, K] that sum to 1 over K."""
        size = queries_BxQxD.shape[-1]

        def project(name, x):
            x = nn.Dense(size, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)(x)
            return x.reshape(*x.shape[:-1], self.num_heads, size // self.num_heads)

        q_BxQxAxE = project("query", queries_BxQxD)
        k_BxKxAxE = project("key", context_BxKxD)
        v_BxKxAxE = project("value", context_BxKxD)
        scores_BxAxQxK = jnp.einsum("bqae,bkae->baqk", q_BxQxAxE, k_BxKxAxE, preferred_element_type=jnp.float32)
        weights_BxAxQxK = nn.softmax(scores_BxAxQxK / (size // self.num_heads) ** 0.5)
        values = jnp.einsum("baqk,bkae->bqae", weights_BxAxQxK.astype(self.dtype), v_BxKxAxE)
        attended = nn.Dense(size, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="out")(
            values.reshape(queries_BxQxD.shape)
        )
        return attended, weights_BxAxQxK


class TransformerBlock(nn.Module):
    """Attention and a feed-forward network, each with a residual connection and then LayerNorm (post-norm).

    With the queries as their own context it is the paper's SA block. With queries from the other stream it is VGA or
    AGA: the residual is of the queries, so the output has as many tokens as they have.
    """

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self, queries_BxQxD: jax.Array, context_BxKxD: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Returns tokens [B, Q, D] and the attention weights [B, heads, Q, K]."""
        config, x = self.config, queries_BxQxD
        dtype, size = jnp.dtype(config.dtype), queries_BxQxD.shape[-1]
        dropout = functools.partial(nn.Dropout(config.dropout), deterministic=not train)

        attended, weights = MultiHeadAttention(config.num_heads, dtype, name="attention")(x, context_BxKxD)
        x = nn.LayerNorm(dtype=dtype, name="attention_norm")(x + dropout(attended))

        hidden = nn.relu(nn.Dense(config.mlp_size, dtype=dtype, name="mlp_hidden")(x))
        update = nn.Dense(size, dtype=dtype, name="mlp_out")(hidden)
        x = nn.LayerNorm(dtype=dtype, name="mlp_norm")(x + dropout(update))
        return x, weights
