"""The optimizer and its learning rate, from `config.optim`."""

from collections.abc import Callable

import jax
import optax
from ml_collections import ConfigDict

from cmav.errors import UserError

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

    Raises:
      UserError: for a name that is not known.
    """
    if config.name == "sgd":
        rule = optax.sgd(schedule, momentum=config.momentum)
    elif config.name == "adam":
        rule = optax.adam(schedule)
    else:
        raise UserError(f"config.optim.name={config.name!r}: choose 'sgd' or 'adam'.")
    steps = [rule]
    if config.weight_decay:
        steps.insert(0, optax.add_decayed_weights(config.weight_decay, mask=_kernels))
    if config.clip_norm:
        steps.insert(0, optax.clip_by_global_norm(config.clip_norm))
    return optax.chain(*steps)


def _kernels(params):
    """True for matrices and convolution kernels; biases and normalisation parameters do not decay."""
    return jax.tree.map(lambda array: array.ndim > 1, params)
