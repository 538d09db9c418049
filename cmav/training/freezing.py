"""What is frozen: parameters that get no gradient, BatchNorm and dropout that do as in evaluation.

It is done to a network from outside, by the paths of its modules, so that no network has to know of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from cmav.trees import is_under, path_of

# What a module is told in evaluation. Networks give it when they call the module, not when they make it.
_AS_IN_EVALUATION = {nn.BatchNorm: {"use_running_average": True}, nn.Dropout: {"deterministic": True}}


def apply_in_training(
    task: Any, variables: Mapping[str, Any], batch: Any, *, frozen: Sequence[str], dropout_key: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """`apply` of a `cmav.tasks.Task` with `train=True`, but for what is frozen.

    Args:
      task: whose network it is.
      variables: of the network.
      batch: that it sees.
      frozen: subtrees of the parameters, `config.optim.frozen`. No gradient reaches them; the BatchNorm in them
        normalises with the statistics that it has and keeps them; the dropout in them drops nothing.
      dropout_key: of all other dropout.
    """

    def stop(key_path, leaf):
        return jax.lax.stop_gradient(leaf) if _is_frozen(path_of(key_path), frozen) else leaf

    def intercept(next_fun, args, kwargs, context):
        for kind, settings in _AS_IN_EVALUATION.items():
            is_call = isinstance(context.module, kind) and context.method_name == "__call__"
            if is_call and _is_frozen("/".join(context.module.path), frozen):
                kwargs = {**kwargs, **settings}
        return next_fun(*args, **kwargs)

    variables = {**variables, "params": jax.tree_util.tree_map_with_path(stop, variables["params"])}
    with nn.intercept_methods(intercept):
        return task.apply(variables, batch, train=True, dropout_key=dropout_key)


def _is_frozen(path: str, frozen: Sequence[str]) -> bool:
    return any(is_under(path, name) for name in frozen)
