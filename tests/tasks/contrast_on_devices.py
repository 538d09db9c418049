"""The contrast losses on all devices of a process of its own: `python -m tests.tasks.contrast_on_devices WHAT OUT`.

OUT is a JSON file. WHAT is "values": of `case()`, per kind of negatives, the loss, its gradients, the diagnostics and
the queue that comes after; or "programs": what the compiler makes of a global batch of 4,096, bytes of temporary memory
and elements of the largest array on a device.
"""

import functools
import json
import math
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

from cmav import distributed
from cmav.tasks import contrast

BATCH_SIZE, DIM, QUEUE_SIZE = 4096, 128, 4096
TEMPERATURE = 0.1


def case(batch_size: int, dim: int, queue_size: int) -> dict[str, np.ndarray | dict[str, np.ndarray]]:
    """Embeddings whose pairs are alike, two rows that do not count, a queue that is filled but for two places."""
    rng = np.random.default_rng(0)
    video, noise, past_video, past_audio = (
        rng.normal(size=(size, dim)) for size in (batch_size, batch_size, queue_size, queue_size)
    )
    weight, filled = np.ones(batch_size), np.ones(queue_size)
    weight[[1, batch_size - 2]] = filled[:2] = 0
    past = {key: x / np.linalg.norm(x, axis=1)[:, None] for key, x in (("video", past_video), ("audio", past_audio))}
    return {"video": video, "audio": video + noise, "weight": weight, "queue": {**past, "weight": filled}}


def step(video, audio, log_temperature, weight, queue, negatives):
    """The loss, and what else a step of training makes of a batch."""
    loss, metrics = contrast.info_nce(
        video,
        audio,
        temperature=jnp.exp(log_temperature),
        negatives=negatives,
        within_weight=0.5,
        queue=queue,
        weight_B=weight,
    )
    metrics |= contrast.diagnostics(video, audio, weight)
    return loss, (metrics, queue and contrast.enqueue(queue, video, audio, weight))


def gradients(negatives: str):
    """Of `step`: (loss, (metrics, queue)), then the gradients by video, audio and log temperature."""
    return jax.jit(jax.value_and_grad(functools.partial(step, negatives=negatives), argnums=(0, 1, 2), has_aux=True))


def values(mesh: jax.sharding.Mesh) -> dict:
    arrays = jax.tree.map(np.float32, case(16, 6, 10))
    queue = distributed.replicate(arrays.pop("queue"), mesh)
    batch = distributed.to_devices(arrays, mesh)
    arguments = batch["video"], batch["audio"], math.log(TEMPERATURE), batch["weight"], queue
    found = {negatives: gradients(negatives)(*arguments) for negatives in contrast.NEGATIVES}
    return jax.tree.map(lambda x: np.asarray(x).tolist(), found)


def programs(mesh: jax.sharding.Mesh) -> dict:
    def shape(*sizes, sharding):
        return jax.ShapeDtypeStruct(sizes, jnp.float32, sharding=sharding)

    on_all, sharded = distributed.replicated(mesh), distributed.batch_sharded(mesh)
    embedding, weight = shape(BATCH_SIZE, DIM, sharding=sharded), shape(BATCH_SIZE, sharding=sharded)
    empty = jax.eval_shape(lambda: contrast.queue_init(QUEUE_SIZE, DIM))
    queue = jax.tree.map(lambda x: shape(*x.shape, sharding=on_all), empty)
    found = {}
    for negatives, memory in (("none", None), ("within", None), ("within", queue), ("separate", queue)):
        arguments = embedding, embedding, shape(sharding=on_all), weight, memory
        program = gradients(negatives).lower(*arguments).compile()
        shapes = re.findall(r"\b(?:pred|[a-z]+\d+)\[([\d,]+)\]", program.as_text())
        found[f"{negatives}, {QUEUE_SIZE if memory else 0}"] = {
            "bytes": program.memory_analysis().temp_size_in_bytes,
            "largest": max(math.prod(map(int, sizes.split(","))) for sizes in shapes),
        }
    return found


def main(what: str, out: str) -> None:
    mesh = distributed.make_mesh()
    found = {"values": values, "programs": programs}[what](mesh)
    with open(out, "w") as file:
        json.dump({"devices": mesh.size, **found}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
