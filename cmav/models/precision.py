"""Products that are to be in float32 on every device.

By default a GPU multiplies float32 in TF32 and a TPU in bfloat16: ten and eight bits of what float32 has 24 of. That is
meant for layers. What is measured, and what a loss compares, asks for more.
"""

import functools

import jax
import jax.numpy as jnp

FLOAT32 = jax.lax.Precision.HIGHEST

# `jnp.einsum` whose products and sums are float32.
float32_einsum = functools.partial(jnp.einsum, precision=FLOAT32, preferred_element_type=jnp.float32)
