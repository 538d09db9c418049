"""Training from a pretrained network, on one split or several. `python -m cmav.finetune` is the command."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from cmav import distributed
from cmav.errors import within
from cmav.training import inheritance, preflight, splits, train


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
    trainer = train.Trainer(inheritance.resolve_config(config, workdir, overrides), workdir)
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
    runs = {number: splits.numbered(config, workdir, number) for number in numbers}
    for number, (split_config, folder) in runs.items():
        with within(f"split {number}"):
            runs[number] = inheritance.resolve_config(split_config, folder, overrides), folder
            preflight.plan(*runs[number], distributed.make_mesh())
    rows = {number: finetune(*run, overrides) for number, run in runs.items()}
    if jax.process_index() == 0:
        splits.report(rows, epath.Path(workdir))
    return rows
