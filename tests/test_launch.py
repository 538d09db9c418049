"""The launch scripts, run by bash with stand-ins for what they call."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

LAUNCH = pathlib.Path(__file__).parent.parent / "launch"


def write_stand_in(folder, name, text):
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def environment(folder, **variables):
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), **variables}


class TestSlurm:
    """srun is a shell that a test tells when and how to end, or that ends with 143 when it gets SIGTERM."""

    def start(self, folder, state="RUNNING", requeue="true", arguments=("--config=configs/avs_cma.py",)):
        write_stand_in(
            folder,
            "srun",
            f"""trap 'date >> {folder}/terminated; sleep 0.3; exit 143' TERM
            echo "$@" > {folder}/srun
            until [[ -e {folder}/end ]]; do sleep 0.05; done
            exit "$(cat {folder}/end)\"""",
        )
        write_stand_in(
            folder,
            "scontrol",
            f"""echo "$@" >> {folder}/scontrol
            case $1 in
              show) echo "   JobState={state} Reason=None Dependency=(null)" ;;
              requeue) {requeue} ;;
            esac""",
        )
        variables = dict(SLURM_SUBMIT_DIR=str(folder), SLURM_JOB_ID="42", SLURM_CPUS_PER_TASK="8")
        process = subprocess.Popen(
            ["bash", LAUNCH / "slurm.sh", *arguments], env=environment(folder, **variables), stderr=subprocess.PIPE
        )
        self.wait_for(folder / "srun")
        return process

    def wait_for(self, path):
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def requeued(self, folder):
        log = folder / "scontrol"
        return log.exists() and "requeue 42" in log.read_text()

    @pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (137, False), (143, True)])
    def test_what_was_asked_to_stop_is_queued_again(self, tmp_path, status, requeued):
        process = self.start(tmp_path)
        (tmp_path / "end").write_text(str(status))
        assert process.wait(20) == status
        assert self.requeued(tmp_path) is requeued

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
    def test_a_signal_to_the_batch_shell_reaches_the_step_which_may_take_its_time(self, tmp_path, number):
        process = self.start(tmp_path)
        process.send_signal(number)
        assert process.wait(20) == 143
        assert len((tmp_path / "terminated").read_text().splitlines()) == 1
        assert self.requeued(tmp_path)

    def test_a_cancelled_job_is_not_queued_again(self, tmp_path):
        process = self.start(tmp_path, state="COMPLETING")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        assert not self.requeued(tmp_path)

    def test_where_slurm_refuses_it_is_said(self, tmp_path):
        process = self.start(tmp_path, requeue="exit 1")
        (tmp_path / "end").write_text("143")
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 143 and b"submit it once more" in errors

    def test_each_task_gets_its_cores(self, tmp_path):
        process = self.start(tmp_path, arguments=("cmav.finetune", "--splits=1, 2"))
        (tmp_path / "end").write_text("0")
        process.wait(20)
        words = (tmp_path / "srun").read_text().split()
        assert "--cpus-per-task=8" in words and "--kill-on-bad-exit=1" in words
        assert words[-5:] == [".venv/bin/python", "-m", "cmav.finetune", "--splits=1,", "2"]


class TestTpuPod:
    """gcloud is a shell that runs the command of `--command` on this machine, as the slice's only host."""

    def run(self, folder, status, action="train"):
        write_stand_in(folder, "gcloud", 'for word; do [[ "$word" == --command=* ]] && exec bash -c "${word#*=}"; done')
        python = folder / "cmav" / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f'#!/usr/bin/env bash\necho "$CMAV_DATA"; printf "<%s>" "$@"; echo; {status}')
        python.chmod(0o755)
        variables = dict(ZONE="z", BUCKET="gs://b", SECONDS_TO_WATCH="3")
        return subprocess.run(
            ["bash", LAUNCH / "tpu_pod.sh", action, "--config=configs/avs_cma.py", "--config.data.dir=a b"],
            env=environment(folder, **variables),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_what_goes_on_is_left_alone_and_told_of(self, tmp_path):
        done = self.run(tmp_path, "sleep 8; exit 7")
        assert done.returncode == 0, done
        words = "<--workdir=gs://b/runs/avs_cma><--config=configs/avs_cma.py><--config.data.dir=a b>"
        assert done.stdout.splitlines() == ["gs://b/shards", f"<-m><cmav.main>{words}"]
        time.sleep(8)
        later = self.run(tmp_path, "", action="log")
        assert later.returncode == 7 and "ended with status 7" in later.stdout

    def test_a_host_on_which_it_fails_at_once_gives_its_status(self, tmp_path):
        done = self.run(tmp_path, "exit 3")
        assert done.returncode == 3 and "ended with status 3" in done.stdout
