"""Variables of a network drawn by NumPy, which is quicker than to compile its initialisation."""

import jax
import numpy as np


def draw(shapes, seed=1):
    """Float32 arrays for a tree of shapes, as `jax.eval_shape` of `init` gives it. Nothing in them is just 0 or 1."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        name = path[-1].key
        if name == "kernel":
            fan_in = shape.size // shape.shape[-1]
            return rng.normal(size=shape.shape, scale=fan_in**-0.5).astype(np.float32)
        around = 1.0 if name in ("scale", "var") else 0.0
        return (around + 0.1 * rng.uniform(-1, 1, shape.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)
