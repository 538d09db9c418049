"""Trains the tiny config in a process of its own and writes down what it saw: `python tests/record_run.py WORKDIR OUT`.

OUT gets, per step, this process's rows of the batch: clip ids and a digest of each row's arrays.
"""

import hashlib
import json
import sys

import jax
import numpy as np

from cmav import distributed, train
from tests import tiny_config


def digest(batch: dict[str, np.ndarray], row: int) -> str:
    content = hashlib.sha256()
    for key in sorted(batch):
        if batch[key].dtype != object:
            content.update(np.ascontiguousarray(batch[key][row]).tobytes())
    return content.hexdigest()


def main(workdir: str, out: str) -> None:
    distributed.initialize("auto")
    seen: list[list[tuple[str, str]]] = []
    to_devices = distributed.to_devices

    def record(batch, mesh):
        seen.append([(clip.decode(), digest(batch, row)) for row, clip in enumerate(batch["clip_id"])])
        return to_devices(batch, mesh)

    distributed.to_devices = record
    train.train(tiny_config.get_config(), workdir)
    with open(out, "w") as file:
        json.dump({"devices": jax.device_count(), "processes": jax.process_count(), "batches": seen}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
