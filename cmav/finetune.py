"""Fine-tuning for action recognition, from a pretrained network.

python -m cmav.finetune --config=configs/finetune_ucf101.py --config.init.checkpoint=runs/avs_cma
python -m cmav.finetune --config=configs/finetune_ucf101.py --splits=1,2,3      # a run for each, and their mean

Without --config it is configs/finetune_ucf101.py, and without a checkpoint the newest pretrained run in runs/. The
network is that of the pretrained run, whatever its config. Started again, the same command goes on where it was.
"""

# Kept short: the logic is in `train.py` and `pretrained.py`, where it can be tested.

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from cmav import cli, distributed
from cmav.errors import within
from cmav.training import splits


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
    from cmav.training import (
        pretrained,  # They import TensorFlow, and a mistyped flag should not wait for that.
        train,
    )

    trainer = train.Trainer(pretrained.settle(config, workdir, overrides), workdir)
    trainer.run()
    return trainer.summary


def finetune_splits(
    config: ConfigDict, workdir: str, numbers: Sequence[int], overrides: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Trains a run on each official split, `<workdir>/split<n>`, and reports the mean (`cmav.training.splits.report`).

    All of them start from the same checkpoint. Returns their summaries, by split.

    Raises:
      UserError: as `finetune`; what can be known of any split is said before the first is trained.
      Preempted: as `finetune`.
    """
    from cmav.training import preflight, pretrained

    runs = {number: splits.numbered(config, workdir, number) for number in numbers}
    for number, (split_config, folder) in runs.items():
        with within(f"split {number}"):
            runs[number] = pretrained.settle(split_config, folder, overrides), folder
            preflight.plan(*runs[number], distributed.make_mesh())
    rows = {number: finetune(*run, overrides) for number, run in runs.items()}
    if jax.process_index() == 0:
        splits.report(rows, epath.Path(workdir))
    return rows


def main(config: ConfigDict, split_numbers: str | None) -> None:
    distributed.initialize(flags.FLAGS.distributed)
    workdir, overrides = cli.workdir(), cli.overrides()
    if split_numbers:
        finetune_splits(config, workdir, splits.parse(split_numbers), overrides)
    else:
        finetune(config, workdir, overrides)


if __name__ == "__main__":
    _CONFIG = cli.define_flags(default_config="configs/finetune_ucf101.py")
    _SPLITS = flags.DEFINE_string("splits", None, "Official splits, e.g. 1,2,3: a run on each, and their mean.")
    cli.run(lambda: main(cli.read_config(_CONFIG), _SPLITS.value))
