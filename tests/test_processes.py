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

from cmav.data.pipeline import make_loader
from cmav.tasks import make_task
from cmav.training import summary, train
from cmav.training.checkpoint import Checkpoints
from tests import commands, fake_clips, tiny_config
from tests.training.test_pretrained import save_run

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    fake_clips.write_dataset(folder, "train", 24, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", 12, seed=1, **tiny_config.CLIPS)
    damaged = fake_clips.write_dataset(folder, "damaged", 13, num_labels=3, silent=(2, 6), seed=2, **tiny_config.CLIPS)
    for record in (4, 9):
        fake_clips.flip_a_byte(damaged, record)
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
            **commands.devices(devices),
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
    endless = ["--config.phases[0].steps=100000", "--config.checkpoint.every=20"]
    job = open_mpi_job()
    processes = [start(data_dir, *command, *endless, **open_mpi_rank(rank, job)) for rank in range(2)]
    wait_for(lambda: (tmp_path / "checkpoints" / "20").exists(), processes)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    last = Checkpoints(str(tmp_path)).steps()[-1]
    assert f"saved step {last} " in outputs[0]


def test_sigterm_to_one_process_is_heard_by_all_in_an_evaluation(data_dir, tmp_path):
    command = ["-m", "cmav.main", "--config=tests/tiny_config.py", f"--workdir={tmp_path}"]
    # 15,000 batches to evaluate after the first step.
    endless = ["--config.evals.pretext.every=1", "--config.evals.pretext.pairs_per_clip=10000"]
    job = open_mpi_job()
    processes = [start(data_dir, *command, *endless, **open_mpi_rank(rank, job)) for rank in range(2)]
    wait_for(lambda: (tmp_path / "checkpoints" / "1").exists(), processes)
    time.sleep(5)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    assert Checkpoints(str(tmp_path)).steps() == [1] and "saved step 1 " in outputs[0]


def test_any_number_of_devices_and_processes_gives_the_same_batches_losses_and_metrics(data_dir, tmp_path):
    for name, config in (("avs", tiny_config.get_config()), ("action", tiny_config.get_action_config())):
        config.data.dir, config.action.num_classes = str(data_dir), 3
        save_run(tmp_path / "runs" / name, config, steps=(6,))

    def record(name, **options):
        out = tmp_path / f"{name}.json"
        workdir = tmp_path / name.split("-")[0]
        return start(data_dir, "tests/record_run.py", str(workdir), str(out), str(tmp_path / "runs"), **options), out

    def read(process, out):
        finish(process)
        return json.loads(out.read_text())

    one = read(*record("one"))
    eight = read(*record("eight", devices=8))
    # Two processes, found in Open MPI's environment as under mpirun.
    job = open_mpi_job()
    ranks = [record(f"two-{rank}", devices=4, **open_mpi_rank(rank, job)) for rank in range(2)]
    first, second = (read(*rank) for rank in ranks)
    assert [run["devices"] for run in (one, eight, first)] == [1, 8, 8]
    assert first["processes"] == 2

    assert one["batches"] == eight["batches"]
    together = [a + b for a, b in zip(first["batches"], second["batches"], strict=True)]
    assert together == one["batches"]
    losses = {name: summary.read_scalars(tmp_path / name)["train/loss"][1] for name in ("one", "eight", "two")}
    np.testing.assert_allclose(losses["eight"], losses["one"], rtol=1e-5)
    np.testing.assert_allclose(losses["two"], losses["one"], rtol=1e-5)

    # Of 13 records two are damaged, and of the pretext task's two more are silent: the last batches are padded.
    expected = one["evaluations"]
    assert expected["avs"]["pretext/clips"] == 9 and expected["action"]["action/videos"] == 11
    for run in (eight, first, second):
        for name, metrics in expected.items():
            assert run["evaluations"][name].keys() == metrics.keys()
            for key, value in metrics.items():
                tolerance = 0 if isinstance(value, int) else 1e-5
                assert run["evaluations"][name][key] == pytest.approx(value, rel=tolerance), (name, key)


@pytest.mark.parametrize("failing", [0, 1])
def test_what_one_process_alone_runs_into_ends_all_of_them(data_dir, tmp_path, failing):
    command = ["tests/fail_in_one.py", str(failing), str(tmp_path)]
    job = open_mpi_job()
    processes = [start(data_dir, *command, **open_mpi_rank(rank, job)) for rank in range(2)]
    wait_for((tmp_path / "checkpoints" / "4").exists, processes)
    begun = time.monotonic()
    outputs = [process.communicate(timeout=400)[0] for process in processes]
    assert time.monotonic() - begun < 90  # JAX by itself lets them wait for 100 to 300 s.
    assert [process.returncode for process in processes] == [1, 1], outputs
    assert "Traceback" not in outputs[failing] and "Error: its disk is gone" in outputs[failing]
    assert f"process {failing} of 2 has failed, and with it the job:\nits disk is gone" in outputs[1 - failing]
    # The last step that was saved by all is there, and nothing of the one that was not.
    assert Checkpoints(str(tmp_path)).steps() == [2, 4]


def test_damage_is_counted_over_all_processes(data_dir, tmp_path):
    folder = tmp_path / "clips"
    split = fake_clips.write_dataset(folder, "train", 24, **tiny_config.CLIPS)
    config = tiny_config.get_config()
    config.data.max_bad_fraction = 1.0

    def read(rank):
        """What process `rank` of two reads in three batches, and which of it is damaged."""
        loader = make_loader(split, make_task(config, config.phases[0]), config.data, train=True)
        rows = slice(4 * rank, 4 * rank + 4)
        batches = loader.train_batches(seed=0, first_example=0, batch_size=8, num_batches=3, rows=rows)
        return [int(clip[4:8]) for batch in batches for clip in batch["clip_id"]], loader.bad_records

    for record in (*read(0)[0][:2], *read(1)[0][:2]):
        fake_clips.flip_a_byte(split, record)
    own = [read(rank)[1] for rank in range(2)]
    allowed = max(map(len, own))
    assert len(own[0] | own[1]) == 4 > allowed

    command = ["-m", "cmav.main", "--config=tests/tiny_config.py", f"--workdir={tmp_path / 'run'}"]
    command += ["--config.log_every=3", "--config.phases[0].steps=3", "--config.phases[1].steps=3"]
    command += [f"--config.data.max_bad_fraction={(allowed + 0.5) / 24}"]
    job = open_mpi_job()
    processes = [start(folder, *command, **open_mpi_rank(rank, job)) for rank in range(2)]
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], outputs
    for output, bad_records in zip(outputs, own, strict=True):
        assert output.count("Skipping a damaged record") == len(bad_records)
        assert "4 of the 24 records of split 'train'" in output and "Traceback" not in output
    assert Checkpoints(str(tmp_path / "run")).steps() == [2]  # They have gone to the third step, and ended there.
    # Each tells of its own damage, and the lead alone of progress.
    assert "steps 0 to 3" in outputs[0] and "steps 0 to 3" not in outputs[1]


@pytest.mark.parametrize("command", ["cmav.embed", "cmav.localize"])
def test_what_is_made_for_one_process_is_not_started_in_several(tmp_path, command):
    process = start(tmp_path, "-m", command, "--checkpoint=x", f"--out={tmp_path}/out", SLURM_STEP_NUM_TASKS="4")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1 and not (tmp_path / "out").exists()
    assert "Traceback" not in output and "SLURM_STEP_NUM_TASKS=4" in output


def test_without_data_three_lines_say_how_to_make_some(tmp_path):
    process = start(tmp_path / "nowhere", "-m", "cmav.main", "--config=configs/avs_cma.py", f"--workdir={tmp_path}")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "cmav prep --videos" in output


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--config=configs/avs_cma.py", "--config.model.dept=2"], 'Did you mean "depth"'),
        (["--config=configs/avs_cma.py", "--config.model.depth=two"], "two"),
        (["--config=configs/none.py"], "none.py"),
        ([], "--config=demo"),
    ],
)
def test_mistyped_flags_are_explained(tmp_path, flags, expected):
    process = start(tmp_path, "-m", "cmav.main", *flags)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert expected in output
