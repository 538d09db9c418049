"""Evaluates a checkpoint of a run with the evaluators of its config.

python -m cmav.evaluate runs/demo --split=validation
python -m cmav.evaluate --config=configs/demo.py --split=validation             # of runs/demo, with this config
python -m cmav.evaluate --config=configs/finetune_ucf101.py --splits=1,2,3      # each split's run, and their mean
python -m cmav.evaluate --config=configs/sync_grid.py --only=localization --split=boxes --config.data.dir=data/boxes

With --only, the numbers that other evaluators have left of the same split and step stay in the file of metrics.

A folder of a run gives the config as well. The network is always the run's own, as its `config.json` has it, and sees
clips at the frame rate of the phase that the checkpoint is of. Where nothing was trained, evaluators that look at
features judge the network of `--config.init.checkpoint`; with `--config.init.load="()"` an untrained one, of that run's
form where one is named.
"""

from collections.abc import Sequence

import jax
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from cmav import cli, distributed, tables
from cmav.errors import UserError


def main(
    config: ConfigDict, split: str | None, split_numbers: str | None, step: int | None, only: Sequence[str] | None
) -> None:
    if only is not None:
        config = with_evaluators(config, only)
    if split and split_numbers:
        raise UserError("--split and --splits: give one of them. --splits=1,2,3 chooses the splits to evaluate on.")
    distributed.initialize(flags.FLAGS.distributed)
    # They import TensorFlow, and a mistyped flag should not wait for that.
    from cmav.training import evaluate_run, splits

    workdir, overrides = cli.workdir(), cli.overrides()
    if split_numbers:
        numbers = splits.parse(split_numbers)
        evaluate_run.evaluate_splits(config, workdir, numbers, step, overrides, keep_others=only is not None)
        return
    metrics = evaluate_run.evaluate(config, epath.Path(workdir), split, step, overrides, keep_others=only is not None)
    if jax.process_index() == 0:
        shown = ((key, f"{value:.4f}" if isinstance(value, float) else f"{value}") for key, value in metrics.items())
        print(tables.plain(("metric", "value"), shown))


def with_evaluators(config: ConfigDict, names: Sequence[str]) -> ConfigDict:
    """A copy of a config with only the evaluators of these names.

    Raises:
      UserError: where one is not in the config, or none is named.
    """
    unknown = [name for name in names if name not in config.evals]
    if unknown or not names:
        raise UserError(f"--only={','.join(names)}: choose of the config's evaluators, {', '.join(config.evals)}.")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.evals = ConfigDict({name: config.evals[name] for name in names})
    return config


if __name__ == "__main__":
    _CONFIG = cli.define_flags()
    _SPLIT = flags.DEFINE_string("split", None, "Split to evaluate on. Default: config.data.eval_split.")
    _SPLITS = flags.DEFINE_string(
        "splits", None, "Official splits, e.g. 1,2,3: evaluates each one's run, and the mean."
    )
    _STEP = flags.DEFINE_integer("step", None, "Which checkpoint. Default: the newest.")
    _ONLY = flags.DEFINE_list("only", None, "Names in config.evals, e.g. localization,pretext. Default: all of them.")
    cli.run(lambda: main(cli.read_config(_CONFIG), _SPLIT.value, _SPLITS.value, _STEP.value, _ONLY.value))
