"""What a config costs, by tracing shapes: parameters, tokens, operations and memory. Nothing is computed."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from cmav.tasks import Task, make_task
from cmav.tasks.base import ClipTask
from cmav.training.freezing import apply_in_training

TABLE_DEPTH = 3  # of nested modules, in the table of parameters


@dataclasses.dataclass(frozen=True)
class PhaseCost:
    """What one clip costs in one of `config.phases`; for synchronization, its frames with K=2 audios."""

    frame_rate: float  # Hz, as the config says
    batch_size: int
    video_tokens: int
    audio_tokens: int
    gflops_per_clip: float  # forward pass; a multiplication and an addition are two, padding is not counted
    activation_bytes_per_clip: int  # kept for the backward pass


def describe_phase(config: ConfigDict, phase: Mapping[str, Any]) -> PhaseCost:
    """Costs of a clip in one phase."""
    task = make_task(config, phase)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    outputs, _ = jax.eval_shape(lambda v, b: task.apply(v, b, train=False), variables, task.batch_shapes(1))
    return PhaseCost(
        frame_rate=phase["frame_rate"],
        batch_size=phase["batch_size"],
        video_tokens=_num_tokens(outputs, "video"),
        audio_tokens=_num_tokens(outputs, "audio"),
        gflops_per_clip=forward_flops(task) / 1e9,
        activation_bytes_per_clip=activation_bytes(task, variables, config.optim.frozen),
    )


def _num_tokens(outputs: Mapping[str, jax.ShapeDtypeStruct], stream: str) -> int:
    tokens = outputs.get(f"{stream}/tokens")
    return 0 if tokens is None else tokens.shape[-2]


def count_parameters(params: Mapping[str, Any]) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def parameter_rows(params: Mapping[str, Any], depth: int = TABLE_DEPTH) -> Iterator[tuple[int, str, int]]:
    """Yields (nesting, name, number of parameters) of each module, outermost first, down to `depth`."""

    def walk(tree, nesting):
        for name, child in tree.items():
            if isinstance(child, Mapping):
                yield nesting, name, count_parameters(child)
                if nesting + 1 < depth:
                    yield from walk(child, nesting + 1)

    return walk(params, 0)


def forward_flops(task: ClipTask) -> float:
    """Of one clip, by XLA's count; a multiplication and an addition are two, padding is not counted.

    Of the network as it is written: other lowerings also multiply the zeros of the padding in time.
    """
    task = dataclasses.replace(task, model_config=FrozenConfigDict({**task.model_config, "conv_lowering": "native"}))
    variables = jax.eval_shape(task.init, jax.random.key(0))
    forward = jax.jit(lambda v, b: _results(task, task.apply(v, b, train=False)[0]))
    return forward.lower(variables, task.batch_shapes(1)).cost_analysis()["flops"]


def activation_bytes(task: Task, variables: Mapping[str, Any], frozen: Sequence[str] = ()) -> int:
    """Bytes that automatic differentiation keeps of one clip until the backward pass.

    Parameters and constants are kept as well, whatever the batch: the difference of two batch sizes is the clip's.
    """
    return _kept_bytes(task, variables, frozen, 2) - _kept_bytes(task, variables, frozen, 1)


def _kept_bytes(task: Task, variables: Mapping[str, Any], frozen: Sequence[str], batch_size: int) -> int:
    state = {key: value for key, value in variables.items() if key != "params"}

    def backward(params, state, batch, dropout_key):
        def forward(params):
            outputs, _ = apply_in_training(
                task, {"params": params, **state}, batch, frozen=frozen, dropout_key=dropout_key
            )
            return _results(task, outputs)

        return jax.vjp(forward, params)[1]

    kept = jax.eval_shape(backward, variables["params"], state, task.batch_shapes(batch_size), jax.random.key(0))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def _results(task: Task, outputs: Mapping[str, jax.Array]) -> list[jax.Array]:
    return [outputs[name] for name in task.results]
