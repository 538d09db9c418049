"""What a network says of every record of a split, view by view, gathered on the host."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cmav import distributed
from cmav.data.pipeline import Loader
from cmav.processes import stop_if_asked


def evenly_spaced(records_N: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of a split's records, in their order: from the first to the last, always the same."""
    places = np.linspace(0, len(records_N) - 1, min(count, len(records_N)))
    return records_N[places.round().astype(int)]


def collect(
    answer: Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]],
    variables: Any,
    loader: Loader,
    mesh: Mesh,
    *,
    batch_size: int,
    views: int = 1,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Runs `answer` over every view of every record. Called by all processes together, which all get all of it.

    Args:
      answer: (variables, batch) -> arrays with a row for each row of the batch; compiled, and replicated over the
        devices. `mask` must be among them: it is 0 for the records that could not be read.
      variables: of the network.
      loader: of the split.
      mesh: of the devices.
      batch_size: views in a batch, over all devices.
      views: of each record.
      seed: of what is random in the views.

    Returns:
      What `answer` returns, as arrays [records, views, ...], in the order of `loader.records`; without the padding.

    Raises:
      Preempted: between two batches, where the job was asked to stop.
      TooManyBadRecordsError: where more records are damaged than the loader allows.
    """
    batches = loader.eval_batches(
        seed=seed, batch_size=batch_size, repeats=views, rows=distributed.local_rows(batch_size, mesh)
    )
    answers = []
    for _, batch in distributed.prefetch(batches, mesh):
        answers.append(jax.device_get(answer(variables, batch)))
        stop_if_asked()
    num_records = len(loader.records)

    def join(key: str) -> np.ndarray:
        rows = np.concatenate([answer[key] for answer in answers])[: num_records * views]
        return rows.reshape(num_records, views, *rows.shape[1:])

    joined = {key: join(key) for key in answers[0]}
    # Each process knows only of those that it has read; together they may be too many.
    loader.check_damage(loader.records[(joined["mask"] == 0).any(axis=1)].tolist())
    return joined
