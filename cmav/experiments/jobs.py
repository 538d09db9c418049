"""Runs of an experiment made, each stage in a process of its own, several at a time."""

import datetime
import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from absl import logging
from etils import epath

from cmav.errors import UserError
from cmav.experiments.experiment import Run


class Jobs:
    """Makes runs, several at a time, each stage in a process of its own.

    Args:
      jobs: how many at a time.
      devices: GPUs by number, which the jobs share in turn; none: every job sees what there is.
      environment: of the processes, beside this one's.
    """

    def __init__(self, jobs: int, devices: Sequence[str] = (), environment: Mapping[str, str] = {}):
        self._jobs, self._devices = jobs, devices
        self._environment = {**os.environ, **environment}
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(jobs):
            self._slots.put(slot)
        self._running: set[subprocess.Popen] = set()
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def make(self, runs: Sequence[Run]) -> None:
        """Makes those that are not done.

        Raises:
          UserError: where a command fails, after all others are done; or, before any, where what is done is of other
            commands.
          KeyboardInterrupt: where it was asked to stop. The commands that ran have saved where they are.
        """
        waiting = [run for run in runs if not all(run.done(stage) for stage in run.stages)]
        logging.info("%d runs, %d of them done", len(runs), len(runs) - len(waiting))
        started, failed = time.monotonic(), []
        pool = ThreadPoolExecutor(self._jobs)
        try:
            futures = {pool.submit(self._make, run): run for run in waiting}
            for done, future in enumerate(as_completed(futures), start=1):
                run, failure = futures[future], future.result()
                if failure:
                    failed.append(failure)
                    logging.warning("%s", failure)
                left = (time.monotonic() - started) / done * (len(waiting) - done)
                told = f"; about {datetime.timedelta(seconds=round(left))} left" if done < len(waiting) else ""
                logging.info("%d of %d: %s%s", done, len(waiting), run, told)
        finally:
            self.stop()  # Of what still runs only where this is left by an exception, such as Ctrl-C's.
            pool.shutdown(cancel_futures=True)
        if failed:
            raise UserError("\n".join([f"{len(failed)} of {len(waiting)} runs failed; the others are done.", *failed]))

    def stop(self) -> None:
        """Asks all commands to stop, as a scheduler would: training saves first."""
        with self._lock:
            self._stopped.set()
            for process in self._running:
                process.terminate()

    def _make(self, run: Run) -> str | None:
        """Returns what went wrong, None where nothing did."""
        slot = self._slots.get()
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            for stage in run.stages:
                if run.done(stage):
                    continue
                started = time.monotonic()
                status = self._execute(run.command(stage), run.log(stage), slot)
                run.spend(stage, time.monotonic() - started)
                if self._stopped.is_set():
                    return None
                if status:
                    return f"{run}: {stage} ended with exit status {status}, see {run.log(stage)}"
                run.keep(stage)
        except UserError as error:
            return f"{run}: {error}"
        finally:
            self._slots.put(slot)
        return None

    def _execute(self, command: Sequence[str], log: epath.Path, slot: int) -> int:
        environment = self._environment
        if self._devices:
            environment = environment | {"CUDA_VISIBLE_DEVICES": self._devices[slot % len(self._devices)]}
        if self._jobs > 1:  # JAX takes three quarters of a GPU for itself.
            sharing = -(-self._jobs // max(len(self._devices), 1))
            environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.3f}", **environment}
        with open(log, "a") as file:
            with self._lock:
                if self._stopped.is_set():
                    return 0
                process = subprocess.Popen(  # In a session of its own: Ctrl-C is for us, who ask it to save.
                    command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
