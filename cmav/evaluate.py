"""Evaluates a checkpoint of a run with the evaluators of its config.

python -m cmav.evaluate --config=configs/demo.py --split=validation
"""

import json

import jax
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from cmav import cli, distributed
from cmav.errors import UserError

_CONFIG = cli.define_flags()
_SPLIT = flags.DEFINE_string("split", None, "Split to evaluate on. Default: config.data.eval_split.")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint. Default: the newest.")


def evaluate(
    config: ConfigDict, workdir: epath.Path, split: str | None = None, step: int | None = None
) -> dict[str, float]:
    """Runs every evaluator on a checkpoint. Returns the metrics, `step` among them.

    Raises:
      UserError: where there is no such run, checkpoint or split, or the checkpoint is of another network.
    """
    import optax

    from cmav import train
    from cmav.checkpoint import Checkpoints
    from cmav.evals import make_evaluators
    from cmav.phases import phase_of
    from cmav.tasks import make_task

    if not (workdir / "checkpoints").is_dir():
        raise UserError(
            f"no checkpoints in {workdir}: train first (python -m cmav.main …) or name the run's --workdir."
        )
    mesh = distributed.make_mesh()
    checkpoints = Checkpoints(str(workdir))
    any_phase = make_task(config, config.phases[0])
    state = train.create_state(any_phase, optax.identity(), config.seed, mesh)
    template = {"params": state.params, "model_state": state.model_state}
    restored = checkpoints.restore(template, step)
    if restored is None:
        raise UserError(f"no whole checkpoint in {workdir} yet.")
    items, metadata = restored
    state = state.replace(**items)
    # Tokens and frames are those of the phase that the checkpoint comes from.
    task = make_task(config, phase_of(config, metadata["step"]).settings)
    metrics = {"step": metadata["step"]}
    for name, evaluator in make_evaluators(config, task, mesh, split).items():
        metrics |= {f"{name}/{key}": value for key, value in evaluator.run(state)}
        if jax.process_index() == 0:
            for path in evaluator.write_report(workdir):
                print(f"wrote {path}")
    checkpoints.close()
    return metrics


def main() -> None:
    config = cli.read_config(_CONFIG)
    distributed.initialize(flags.FLAGS.distributed)
    workdir = epath.Path(cli.workdir())
    split = _SPLIT.value or config.data.eval_split
    metrics = evaluate(config, workdir, split, _STEP.value)
    if jax.process_index() == 0:
        path = workdir / f"eval_{split}_{metrics['step']}.json"
        path.write_text(json.dumps(metrics, indent=2))
        width = max(map(len, metrics))
        for key, value in metrics.items():
            print(f"{key:<{width}}  {value:.4f}" if isinstance(value, float) else f"{key:<{width}}  {value}")
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
