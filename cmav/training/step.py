"""What training changes, and one step of it. Knows no data pipeline, so that it can be compiled where there is none."""

from collections.abc import Sequence
from typing import Any

import jax
import optax
from flax import struct

from cmav.tasks import Batch, Metrics, Task
from cmav.training.freezing import apply_in_training


@struct.dataclass
class TrainState:
    """All that training changes. Plain trees of arrays, on every device."""

    step: jax.Array  # int32 [], steps done
    params: Any
    model_state: Any  # collections beside the parameters, such as batch_stats
    opt_state: Any

    def items(self) -> dict[str, Any]:
        """What a checkpoint holds; its number is the step."""
        return {"params": self.params, "model_state": self.model_state, "opt_state": self.opt_state}


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    task: Task,
    optimizer: optax.GradientTransformation,
    seed: int,
    frozen: Sequence[str] = (),
) -> tuple[TrainState, Metrics]:
    """One optimizer step. Randomness on the device is a function of (seed, step); `frozen` as in `config.optim`."""
    dropout_key = jax.random.fold_in(jax.random.key(seed), state.step)

    def loss_fn(params):
        variables = {"params": params, **state.model_state}
        outputs, changed = apply_in_training(task, variables, batch, frozen=frozen, dropout_key=dropout_key)
        loss, metrics = task.loss(outputs, batch)
        return loss, (changed, metrics)

    (loss, (changed, metrics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = {"loss": loss, **metrics, "grad_norm": optax.global_norm(grads)}
    new_state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        model_state={**state.model_state, **changed},
        opt_state=opt_state,
    )
    return new_state, metrics
