"""Trains the tiny config in a process of its own and writes down what it saw: `python tests/record_run.py WORKDIR OUT`.

OUT gets, per step, this process's rows of the batch: clip ids and a digest of each row's arrays. And what the
evaluations of two more runs give, whose folders are RUNS/avs and RUNS/action: `… WORKDIR OUT RUNS`.
"""

import hashlib
import json
import sys

import jax
import numpy as np
from etils import epath

from cmav import distributed
from cmav.training import evaluate_run, train
from tests import tiny_config


def digest(batch: dict[str, np.ndarray], row: int) -> str:
    content = hashlib.sha256()
    for key in sorted(batch):
        if batch[key].dtype != object:
            content.update(np.ascontiguousarray(batch[key][row]).tobytes())
    return content.hexdigest()


def evaluate_runs(runs: str) -> dict[str, dict[str, float]]:
    configs = {"avs": tiny_config.get_config(), "action": tiny_config.get_action_config()}
    metrics = {}
    for name, config in configs.items():
        config.data.max_bad_fraction = 0.2
        config.data.eval_split, config.action.num_classes = "damaged", 3
        metrics[name] = evaluate_run.evaluate(config, epath.Path(runs) / name)
    return metrics


def main(workdir: str, out: str, runs: str) -> None:
    distributed.initialize("auto")
    seen: list[list[tuple[str, str]]] = []
    to_devices = distributed.to_devices

    def record(batch, mesh):
        seen.append([(clip.decode(), digest(batch, row)) for row, clip in enumerate(batch["clip_id"])])
        return to_devices(batch, mesh)

    distributed.to_devices = record
    config = tiny_config.get_config()
    config.phases = config.phases[1:]
    train.train(config, workdir)
    distributed.to_devices = to_devices
    record = {"devices": jax.device_count(), "processes": jax.process_count(), "batches": seen}
    with open(out, "w") as file:
        json.dump({**record, "evaluations": evaluate_runs(runs)}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
