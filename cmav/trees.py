"""Trees of parameters by path: "backbone/video_encoder/fc/kernel"."""

from typing import Any

import jax


def path_of(key_path: Any) -> str:
    """The path of a leaf, from JAX's key path."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def flatten(tree: Any) -> dict[str, Any]:
    """Leaves by path. What has a shape is a leaf, whatever else it is."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {path_of(key_path): leaf for key_path, leaf in leaves}


def is_under(path: str, name: str) -> bool:
    """Whether a path is that of a subtree, or of something in it."""
    return path == name or path.startswith(f"{name}/")


def heads(paths: Any, depth: int = 2) -> list[str]:
    """The first parts of paths, each once, sorted: what a message can name."""
    return sorted({"/".join(path.split("/")[:depth]) for path in paths})
