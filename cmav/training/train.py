"""The trainer: the loop around `step.train_step`. It knows no task by name.

The loop keeps two batches in flight to the devices and reads the metrics of step n-1 after step n was dispatched, so
that neither the pipeline nor the host holds the devices up.
"""

import functools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cmav import distributed, processes
from cmav.data.pipeline import Loader, make_loader
from cmav.errors import Preempted, UserError
from cmav.evals.evaluators import Evaluator, list_panels
from cmav.tasks import Metrics, Task
from cmav.training import preflight, pretrained, run_config, summary, trackers
from cmav.training.checkpoint import Checkpoints
from cmav.training.evaluation import Evaluations
from cmav.training.phases import Phase, phase_of
from cmav.training.progress import Progress
from cmav.training.step import TrainState, train_step


class NonFiniteLossError(UserError):
    """The loss became infinite or NaN."""


def create_state(
    config: ConfigDict, task: Task, optimizer: optax.GradientTransformation, mesh: Mesh, *, is_fresh: bool = True
) -> TrainState:
    """Initialises the network, loads what `config.init` names, then initialises the optimizer.

    `is_fresh=False` leaves out the loading: for a state that is only the template of a checkpoint.
    """

    def init(key):
        variables = task.init(key)
        return {"params": variables.pop("params"), "model_state": dict(variables)}

    on_all = distributed.replicated(mesh)
    items = jax.jit(init, out_shardings=on_all)(jax.random.key(config.seed))
    if is_fresh and pretrained.is_wanted(config):
        items = pretrained.start_from(items, config)
    opt_state = jax.jit(optimizer.init, out_shardings=on_all)(items["params"])
    return TrainState(distributed.replicate(jnp.zeros((), jnp.int32), mesh), **items, opt_state=opt_state)


def train(config: ConfigDict, workdir: str) -> TrainState:
    """Trains to the end of the last phase, from the newest checkpoint in `workdir` where there is one.

    Raises:
      UserError: whatever the user can mend; `NonFiniteLossError` where the loss is no longer finite.
      Preempted: when asked to stop (SIGTERM), once the state is saved.
    """
    return Trainer(config, workdir).run()


class Trainer:
    """The loop around `train_step`: data, metrics, evaluation, checkpoints."""

    def __init__(self, config: ConfigDict, workdir: str):
        self.config, self.workdir = config, epath.Path(workdir)
        self.is_lead = processes.is_lead()
        self.mesh = distributed.make_mesh()
        self.plan = preflight.plan(config, workdir, self.mesh)  # First: a start that is refused leaves all as it was.
        self.phases, self.total_steps = self.plan.phases, self.plan.total_steps
        self.schedule, self.optimizer = self.plan.schedule, self.plan.optimizer
        self.checkpoints = Checkpoints(workdir, config.checkpoint.keep)
        self.preemption = processes.Preemption()
        self.writer = trackers.make_writer(config, str(workdir), is_lead=self.is_lead)
        self.evaluations = Evaluations(config, self.workdir, self.total_steps, self.writer)
        self.window: list[dict[str, np.ndarray]] = []  # metrics since the last line of progress
        self.summary: dict[str, Any] = {}  # the numbers of the run, once it is over; on all processes
        self.seconds_before = 0.0  # of training, before this process started
        self.started = time.monotonic()

    def run(self) -> TrainState:
        try:
            state, step = self._restore_or_create()
            if self.is_lead:
                run_config.write(self.config, self.workdir, step)
            self.progress = Progress(step, self.total_steps)
            if step:
                self._make_up_evaluation(state, step)
            for phase in self.phases:
                if step < phase.last_step:
                    state = self._run_phase(phase, state, step)
                    step = phase.last_step
            self.summary = summary.make(step, self._seconds(), _count(state.params), self.evaluations.metrics)
            if self.is_lead:
                self._write_summary()
            self.evaluations.close()
            self.checkpoints.close()
            return state
        except BaseException:
            processes.try_together(self.checkpoints.close)
            raise
        finally:
            self.preemption.close()
            self.writer.close()

    def _task(self, phase: Phase) -> Task:
        return self.plan.tasks[self.phases.index(phase)]

    def _evaluators(self, task: Task) -> dict[str, Evaluator]:
        return self.plan.evaluators[task]

    def _restore_or_create(self) -> tuple[TrainState, int]:
        """The order: this run's own newest checkpoint, else what `config.init` names, else a fresh network."""
        is_fresh = not self.checkpoints.steps()
        task = self._task(self.phases[0])
        state = create_state(self.config, task, self.optimizer, self.mesh, is_fresh=is_fresh)
        if is_fresh:
            logging.info("a new run; its network has %.2fM parameters", _count(state.params) / 1e6)
            return state, 0
        restored = self.checkpoints.restore(state.items())
        items, metadata = restored
        step = metadata["step"]
        if step > self.total_steps:
            raise UserError(
                f"the checkpoint in {self.workdir} has done {step} steps, and config.phases has {self.total_steps}: "
                "give more steps, or another --workdir."
            )
        self.seconds_before = metadata["seconds"]
        logging.info("resuming at step %d", step)
        return state.replace(step=distributed.replicate(jnp.int32(step), self.mesh), **items), step

    def _run_phase(self, phase: Phase, state: TrainState, first_step: int) -> TrainState:
        config, task = self.config, self._task(phase)
        logging.info("steps %d to %d: %s", first_step, phase.last_step, dict(phase.settings))
        evaluators = self._evaluators(task)
        step_fn = jax.jit(
            functools.partial(
                train_step,
                task=task,
                optimizer=self.optimizer,
                seed=config.seed,
                frozen=tuple(config.optim.frozen),
            ),
            donate_argnums=0,
        )
        pending: tuple[int, Any, dict] | None = None  # a step whose metrics are still on the devices
        loader = make_loader(self.plan.index, task, config.data, train=True)
        batches = self.progress.count_waits(self._batches(phase, loader, first_step))
        for step, (host_batch, batch) in enumerate(batches, start=first_step + 1):
            state, metrics = step_fn(state, batch)
            self.progress.begin(metrics["loss"])
            if pending:
                self._collect(*pending)
            pending = (step, metrics, host_batch)

            # Do not change the order: a state is saved before it is looked at, which takes long, and can fail or be
            # killed; and looked at before the next step, which takes its arrays. Saving goes on beside the evaluation.
            is_last = step == self.total_steps
            if is_last or step % config.log_every == 0:
                self._collect(*pending)
                pending = None
                self._write_metrics(step, task)
                loader.check_damage(processes.union(loader.bad_records))
            is_due = bool(self.evaluations.due(evaluators, step))
            stop = self.preemption.reached()
            if is_last or stop or is_due or step % config.checkpoint.every == 0:
                if pending:
                    self._collect(*pending)
                    pending = None
                self._save(state, step)
            if stop:
                self._stop(step)
            if is_due:
                self._evaluate(evaluators, state, step)
        if pending:
            self._collect(*pending)
        return state

    def _batches(self, phase: Phase, loader: Loader, first_step: int) -> Iterator[tuple[dict, dict]]:
        batch_size = phase.settings["batch_size"]
        batches = loader.train_batches(
            seed=self.config.seed,
            first_example=phase.example_at(first_step),
            batch_size=batch_size,
            num_batches=phase.last_step - first_step,
            rows=distributed.local_rows(batch_size, self.mesh),
        )
        return distributed.prefetch(batches, self.mesh)

    def _collect(self, step: int, metrics: Metrics, host_batch: Mapping[str, np.ndarray]) -> None:
        """Fetches one step's metrics, waiting for it.

        Raises:
          NonFiniteLossError: names the step, the learning rate, the clips and the checkpoint to go back to.
        """
        metrics = jax.device_get(metrics)
        loss, grad_norm = metrics["loss"], metrics["grad_norm"]
        # The gradient too: it is what spoils the parameters, a step before the loss shows it.
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            clips = b", ".join(host_batch["clip_id"].tolist()).decode(errors="replace")
            saved = self.checkpoints.steps()
            raise NonFiniteLossError(
                f"the loss of step {step} is {loss:g} and its gradient's norm {grad_norm:g}, "
                f"at learning rate {float(self.schedule(step - 1)):g}.\n"
                f"Clips of the batch: {clips}\n"
                f"Last good checkpoint: {f'step {saved[-1]} in {self.workdir}' if saved else 'none yet'}.\n"
                "Try a smaller config.optim.learning_rate, config.optim.warmup_steps, or config.optim.clip_norm."
            )
        self.window.append(metrics)

    def _write_metrics(self, step: int, task: Task) -> None:
        means = _means(self.window)
        self.window.clear()
        extra = {"learning_rate": float(self.schedule(step - 1)), **self.progress.report(step, means)}
        self.writer.write_scalars(step, {f"train/{key}": value for key, value in {**means, **extra}.items()})
        if (concern := task.concern(means)) and self.is_lead:
            logging.warning("step %d: %s.", step, concern)

    def _evaluate(self, evaluators: Mapping[str, Evaluator], state: TrainState, step: int) -> None:
        """Runs the evaluators that are due at a step that is saved.

        Raises:
          Preempted: where the job was asked to stop.
          Exception: of an evaluator. It ends the run, for one that went on would lack numbers.
        """
        try:
            self.evaluations.run(evaluators, state, step)
        except Preempted:
            self._stop(step)
        except Exception as error:
            error.add_note(
                f"Step {step} is saved in {self.workdir}: mend that, or leave the evaluator out of the config; "
                "then the same command goes on with this evaluation."
            )
            raise

    def _make_up_evaluation(self, state: TrainState, step: int) -> None:
        """What was due at the step that the run goes on from, and was cut off; all, where the run had ended."""
        self.evaluations.resume(step)
        evaluators = self._evaluators(self._task(phase_of(self.config, step)))
        if self.evaluations.due(evaluators, step):
            self._evaluate(evaluators, state, step)

    def _stop(self, step: int) -> NoReturn:
        self.checkpoints.wait()
        raise Preempted(f"asked to stop: saved step {step} in {self.workdir}; the same command goes on from there.")

    def _save(self, state: TrainState, step: int) -> None:
        self.checkpoints.save(step, state.items(), {"step": step, "seconds": self._seconds(), "task": self.config.task})

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _write_summary(self) -> None:
        self.writer.flush()
        text = json.dumps(self.summary, indent=2)
        (self.workdir / "summary.json").write_text(text)
        if panels := list_panels(self.config, self._task(self.phases[-1])):
            summary.save_curves(self.workdir, panels, self.workdir / "curves.png")
        logging.info("wrote %s:\n%s", self.workdir / "summary.json", text)


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _means(window: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Of each metric over the steps that have it: a phase may not have it, and NaN says that a batch had nothing of it.

    The loss is never NaN here: `Trainer._collect` ends the run at the first.
    """
    means = {}
    for key in dict.fromkeys(key for metrics in window for key in metrics):
        values = np.array([metrics[key] for metrics in window if key in metrics])
        if (known := ~np.isnan(values)).any():
            means[key] = float(np.mean(values[known]))
    return means
