"""The optimizer and its learning rate, from `config.optim`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from cmav.errors import UserError
from cmav.trees import flatten, heads, is_under, path_of

Schedule = Callable[[int], float]


def make_schedule(config: ConfigDict, total_steps: int) -> Schedule:
    """Learning rate by step: linear warm-up over `warmup_steps`, then `schedule` over the rest.

    Raises:
      UserError: for a schedule that is not known.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "constant":
        schedule = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(peak, max(total_steps - warmup, 1))
    elif config.schedule == "halving":
        schedule = optax.exponential_decay(peak, config.halve_every, 0.5, staircase=True)
    else:
        raise UserError(f"config.optim.schedule={config.schedule!r}: choose 'constant', 'cosine' or 'halving'.")
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), schedule], [warmup])


def make_optimizer(config: ConfigDict, schedule: Schedule) -> optax.GradientTransformation:
    """Clipping, then L2 weight decay of the kernels (added to the gradient, as in SGD with momentum), then the rule.

    Last come the learning rates of subtrees: `frozen`, `multipliers`, `head_warmup_steps`.

    Raises:
      UserError: for a name that is not known; of a subtree, once the parameters are known (`init`). For a rate of its
        own within what is frozen.
    """
    if config.name == "sgd":
        rule = optax.sgd(schedule, momentum=config.momentum)
    elif config.name == "adam":
        rule = optax.adam(schedule)
    else:
        raise UserError(f"config.optim.name={config.name!r}: choose 'sgd' or 'adam'.")
    _check_multipliers(config)
    steps = [rule]
    if config.weight_decay:
        steps.insert(0, optax.add_decayed_weights(config.weight_decay, mask=_kernels))
    if config.frozen or config.multipliers or config.head_warmup_steps:
        multipliers = {**dict(config.multipliers), **dict.fromkeys(config.frozen, 0.0)}
        steps.append(scale_subtrees(multipliers, config.head_warmup_steps))
    optimizer = optax.chain(*steps)
    return _clipped(optimizer, config.clip_norm) if config.clip_norm else optimizer


def _clipped(optimizer: optax.GradientTransformation, norm: float) -> optax.GradientTransformation:
    """Clips gradients before an optimizer, whose state stays as it is: a run may begin to clip when it goes on."""
    clip = optax.clip_by_global_norm(norm)

    def update(updates, state, params=None):
        return optimizer.update(clip.update(updates, optax.EmptyState())[0], state, params)

    return optax.GradientTransformation(optimizer.init, update)


class ScaleSubtreesState(NamedTuple):
    count: jax.Array  # int32 [], updates made


def scale_subtrees(multipliers: dict[str, float], head_warmup_steps: int = 0) -> optax.GradientTransformation:
    """Multiplies the updates of named subtrees.

    Args:
      multipliers: factor by name, such as "backbone" or "backbone/video_encoder"; the longest name that fits a
        parameter counts, and 1 where none does. A factor of 0 leaves a parameter exactly as it is.
      head_warmup_steps: in the first so many updates all but "head" have a factor of 0.

    Raises:
      UserError: in `init`, for a name that no parameter has.
    """

    def factor(path: str) -> float:
        fitting = [name for name in multipliers if is_under(path, name)]
        return multipliers[max(fitting, key=len)] if fitting else 1.0

    def init(params):
        paths = flatten(params).keys()
        for name in (*multipliers, *(["head"] if head_warmup_steps else [])):
            if not any(is_under(path, name) for path in paths):
                raise UserError(
                    f"config.optim: the network has no parameters {name!r} (frozen, multipliers or head_warmup_steps); "
                    f"it has {', '.join(heads(paths))}."
                )
        return ScaleSubtreesState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        is_warm = state.count >= head_warmup_steps

        def scale(key_path, x):
            path = path_of(key_path)
            scaled = x * factor(path)
            return scaled if is_under(path, "head") or not head_warmup_steps else jnp.where(is_warm, scaled, 0)

        return jax.tree_util.tree_map_with_path(scale, updates), ScaleSubtreesState(state.count + 1)

    return optax.GradientTransformation(init, update)


def _check_multipliers(config: ConfigDict) -> None:
    for name, _ in config.multipliers:
        for frozen in config.frozen:
            if is_under(name, frozen):
                raise UserError(
                    f"config.optim.multipliers has {name!r}, and config.optim.frozen {frozen!r}, which it is in: leave "
                    "it out of multipliers, or name in frozen only the other parts."
                )


def _kernels(params):
    """True for matrices and convolution kernels; biases and normalisation parameters do not decay."""
    return jax.tree.map(lambda array: array.ndim > 1, params)
