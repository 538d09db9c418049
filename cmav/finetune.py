"""Fine-tuning for action recognition, from a pretrained network.

python -m cmav.finetune --config=configs/finetune_ucf101.py --config.init.checkpoint=runs/avs_cma
python -m cmav.finetune --config=configs/finetune_ucf101.py --splits=1,2,3      # a run for each, and their mean

Without --config it is configs/finetune_ucf101.py, and without a checkpoint the newest pretrained run in runs/. The
network is that of the pretrained run, whatever its config. Started again, the same command goes on where it was.
"""

# Kept short: the logic is in `train.py` and `pretrained.py`, where it can be tested.

import json
from collections.abc import Mapping
from typing import Any

import jax
from absl import flags, logging
from etils import epath
from ml_collections import ConfigDict

from cmav import cli, distributed


def finetune(config: ConfigDict, workdir: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Trains one run to its end, with the network of the run that it starts from. Returns its `summary.json`.

    Args:
      config: of the run.
      workdir: its folder.
      overrides: what the command line sets, by path; it counts for more than the pretrained run's network.

    Raises:
      UserError: whatever the user can mend.
      Preempted: when asked to stop (SIGTERM), once the state is saved.
    """
    from cmav import pretrained, train

    train.train(pretrained.settle(config, workdir, overrides), workdir)
    return json.loads((epath.Path(workdir) / "summary.json").read_text())


def main(config: ConfigDict, split_numbers: str | None) -> int | None:
    distributed.initialize(flags.FLAGS.distributed)
    from cmav import splits, train  # Imports TensorFlow, and a mistyped flag should not wait for that.

    workdir, overrides = cli.workdir(), cli.overrides()
    try:
        if not split_numbers:
            finetune(config, workdir, overrides)
            return None
        rows = {}
        for number in splits.parse(split_numbers):
            rows[number] = finetune(*splits.numbered(config, workdir, number), overrides)
        if jax.process_index() == 0:
            splits.report(rows, epath.Path(workdir))
    except train.Preempted as stop:
        logging.info("%s", stop)
        return 128 + 15  # As a process that SIGTERM ended, so that a scheduler starts the job again.


if __name__ == "__main__":
    _CONFIG = cli.define_flags(default_config="configs/finetune_ucf101.py")
    _SPLITS = flags.DEFINE_string("splits", None, "Official splits, e.g. 1,2,3: a run on each, and their mean.")
    cli.run(lambda: main(cli.read_config(_CONFIG), _SPLITS.value))
