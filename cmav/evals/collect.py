"""What a network says of every record of a split, view by view, gathered on the host."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cmav import distributed
from cmav.data.pipeline import Loader


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
        devices. `mask` should be among them: it is 0 for the records that could not be read.
      variables: of the network.
      loader: of the split.
      mesh: of the devices.
      batch_size: views in a batch, over all devices.
      views: of each record.
      seed: of what is random in the views.

    Returns:
      What `answer` returns, as arrays [records, views, ...], in the order of `loader.records`; without the padding.
    """
    batches = loader.eval_batches(
        seed=seed, batch_size=batch_size, repeats=views, rows=distributed.local_rows(batch_size, mesh)
    )
    answers = [jax.device_get(answer(variables, batch)) for _, batch in distributed.prefetch(batches, mesh)]
    num_records = len(loader.records)

    def join(key: str) -> np.ndarray:
        rows = np.concatenate([answer[key] for answer in answers])[: num_records * views]
        return rows.reshape(num_records, views, *rows.shape[1:])

    return {key: join(key) for key in answers[0]}
