"""Whole commands in processes of their own: killed ones, several devices, several processes."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
import pytest

from cmav import summary, train
from cmav.checkpoint import Checkpoints
from tests import fake_clips, tiny_config

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    fake_clips.write_dataset(folder, "train", 24, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", 12, seed=1, **tiny_config.CLIPS)
    return folder


def start(data_dir, *command, devices: int = 1, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "CMAV_DATA": str(data_dir),
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            **environment,
        },
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    return output


def wait_for(condition: Callable[[], bool], processes: Sequence[subprocess.Popen]) -> None:
    """Waits until something is so, as long as all processes live."""
    deadline = time.monotonic() + 400
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def final_params(data_dir, workdir) -> dict:
    config = tiny_config.get_config()
    config.data.dir = str(data_dir)
    trainer = train.Trainer(config, str(workdir))
    state, step = trainer._restore_or_create()
    trainer.checkpoints.close()
    trainer.preemption.close()
    trainer.writer.close()
    assert step == trainer.total_steps
    return jax.device_get(state.items())


def test_killed_and_started_again_ends_bit_for_bit_the_same(data_dir, tmp_path):
    command = ["-m", "cmav.main", "--config=tests/tiny_config.py", "--config.checkpoint.every=1"]
    finish(start(data_dir, *command, f"--workdir={tmp_path / 'whole'}"))

    parts = tmp_path / "parts"
    for kill_after in (2, 8):  # within the first phase, and within the second
        process = start(data_dir, *command, f"--workdir={parts}")
        # At one checkpoint a step a save is under way nearly always, and the kill falls into one.
        later = [parts / "checkpoints" / str(step) for step in range(kill_after, 13)]
        wait_for(lambda later=later: any(path.exists() for path in later), [process])
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert Checkpoints(str(parts)).steps()[-1] < 12
    output = finish(start(data_dir, *command, f"--workdir={parts}"))
    assert "resuming at step" in output
    for a, b in zip(
        jax.tree.leaves(final_params(data_dir, tmp_path / "whole")),
        jax.tree.leaves(final_params(data_dir, parts)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def open_mpi_job() -> str:
    """An Open MPI job number from which JAX derives a port for its coordinator (61440 + number / 4096) that is free."""
    for port in range(61440 + os.getpid() % 2000, 65535):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return str((port - 61440) * 4096)
    raise RuntimeError("no free port above 61440")


def open_mpi_rank(rank: int, job: str) -> dict[str, str]:
    """The environment in which mpirun starts a process: two of them, on this machine."""
    return {
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
        "OMPI_MCA_orte_hnp_uri": f"{job}.0;tcp://127.0.0.1:1",
    }


def test_sigterm_to_one_process_saves_one_step_of_all(data_dir, tmp_path):
    command = ["-m", "cmav.main", "--config=tests/tiny_config.py", f"--workdir={tmp_path}"]
    endless = ["--config.phases[1].steps=100000", "--config.checkpoint.every=20"]
    job = open_mpi_job()
    processes = [start(data_dir, *command, *endless, **open_mpi_rank(rank, job)) for rank in range(2)]
    wait_for(lambda: (tmp_path / "checkpoints" / "20").exists(), processes)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    last = Checkpoints(str(tmp_path)).steps()[-1]
    assert all(f"saved step {last} " in output for output in outputs)


def test_any_number_of_devices_and_processes_gives_the_same_batches_and_losses(data_dir, tmp_path):
    def record(name, **options):
        out = tmp_path / f"{name}.json"
        workdir = tmp_path / name.split("-")[0]
        return start(data_dir, "tests/record_run.py", str(workdir), str(out), **options), out

    def read(process, out):
        finish(process)
        return json.loads(out.read_text())

    one = read(*record("one"))
    eight = read(*record("eight", devices=8))
    # Two processes, found in Open MPI's environment as under mpirun.
    job = open_mpi_job()
    ranks = [record(f"two-{rank}", devices=2, **open_mpi_rank(rank, job)) for rank in range(2)]
    first, second = (read(*rank) for rank in ranks)
    assert [run["devices"] for run in (one, eight, first)] == [1, 8, 4]
    assert first["processes"] == 2

    assert one["batches"] == eight["batches"]
    together = [a + b for a, b in zip(first["batches"], second["batches"], strict=True)]
    assert together == one["batches"]
    losses = {name: summary.read_scalars(tmp_path / name)["train/loss"][1] for name in ("one", "eight", "two")}
    np.testing.assert_allclose(losses["eight"], losses["one"], rtol=1e-5)
    np.testing.assert_allclose(losses["two"], losses["one"], rtol=1e-5)


def test_without_data_three_lines_say_how_to_make_some(tmp_path):
    process = start(tmp_path / "nowhere", "-m", "cmav.main", "--config=configs/avs_cma.py", f"--workdir={tmp_path}")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "data_prep/build_tfrecords.py" in output


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--config=configs/avs_cma.py", "--config.model.dept=2"], 'Did you mean "depth"'),
        (["--config=configs/avs_cma.py", "--config.model.depth=two"], "two"),
        (["--config=configs/none.py"], "none.py"),
        ([], "configs/demo.py"),
    ],
)
def test_mistyped_flags_are_explained(tmp_path, flags, expected):
    process = start(tmp_path, "-m", "cmav.main", *flags)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert expected in output
