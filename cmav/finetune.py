"""Fine-tuning for action recognition, from a pretrained network.

python -m cmav.finetune --config=configs/finetune_ucf101.py --config.init.checkpoint=runs/avs_cma
python -m cmav.finetune --config=configs/finetune_ucf101.py --splits=1,2,3      # a run for each, and their mean

Without --config it is configs/finetune_ucf101.py, and without a checkpoint the newest pretrained run in runs/. The
network is that of the pretrained run, whatever its config. Started again, the same command goes on where it was.
"""

# Kept short: the logic is in `train.py` and `pretrained.py`, where it can be tested.

from collections.abc import Mapping
from typing import Any

import jax
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from cmav import cli, distributed, splits


def finetune(config: ConfigDict, workdir: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Trains one run to its end, with the network of the run that it starts from.

    Returns the numbers of its `summary.json`, on all processes: the file is written by one, and others may not see it.

    Args:
      config: of the run.
      workdir: its folder.
      overrides: what the command line sets, by path; it counts for more than the pretrained run's network.

    Raises:
      UserError: whatever the user can mend.
      Preempted: when asked to stop (SIGTERM), once the state is saved.
    """
    from cmav import pretrained, train  # They import TensorFlow, and a mistyped flag should not wait for that.

    trainer = train.Trainer(pretrained.settle(config, workdir, overrides), workdir)
    trainer.run()
    return trainer.summary


def main(config: ConfigDict, split_numbers: str | None) -> None:
    distributed.initialize(flags.FLAGS.distributed)
    workdir, overrides = cli.workdir(), cli.overrides()
    if not split_numbers:
        finetune(config, workdir, overrides)
        return
    rows = {}
    for number in splits.parse(split_numbers):
        rows[number] = finetune(*splits.numbered(config, workdir, number), overrides)
    if jax.process_index() == 0:
        splits.report(rows, epath.Path(workdir))


if __name__ == "__main__":
    _CONFIG = cli.define_flags(default_config="configs/finetune_ucf101.py")
    _SPLITS = flags.DEFINE_string("splits", None, "Official splits, e.g. 1,2,3: a run on each, and their mean.")
    cli.run(lambda: main(cli.read_config(_CONFIG), _SPLITS.value))
