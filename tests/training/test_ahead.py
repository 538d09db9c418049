"""Facts about programs for chips that are not here; skipped where their compilers are not (pip install '.[aot]')."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

FULL = "CMAV_AOT_FULL"  # set: the paper's network too, in minutes


def describe(config, device, *flags):
    """What `python -m cmav.describe` says, in a process of its own, whose JAX has seen no other compiler."""
    command = [sys.executable, "-m", "cmav.describe", f"--config={config}", f"--device={device}", "--json", *flags]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def needs(package):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None, reason=f"needs {package}: pip install '.[aot]'"
    )


full = pytest.mark.skipif(not os.environ.get(FULL), reason=f"takes minutes: set {FULL}=1")
tpu, gpu = needs("libtpu"), needs("jax_cuda12_plugin")


_EVERY_SLICE = """
from cmav.training import chips
from cmav.training.ahead import Compiler
for kind, topologies in chips.TOPOLOGIES.items():
    for count in topologies:
        Compiler(chips.find(f"{kind}-{count}"))  # which raises where the devices are others
"""


@tpu
def test_the_compiler_knows_every_slice_that_has_a_name():
    run = subprocess.run([sys.executable, "-c", _EVERY_SLICE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@tpu
def test_the_demo_for_a_tpu():
    described = describe("configs/demo.py", "v5e-4", "--config.evals={}")
    (phase,) = described["phases"]
    assert described["device"] == "v5e-4" and phase["fits"] and phase["estimated_cycles_per_clip"] > 1e4
    assert set(phase["collectives"]) == {"all-reduce"}
    assert phase["temp_bytes_per_device"] < 50e6 and phase["estimated_seconds"] > phase["seconds_at_best"] > 0


@gpu
def test_the_demo_for_a_gpu():
    (phase,) = describe("configs/demo.py", "h100", "--config.evals={}")["phases"]
    assert phase["fits"] and phase["estimated_cycles_per_clip"] is None and not phase["collectives"]
    assert phase["temp_bytes_per_device"] < 200e6 and not phase["copies"]


@full
@tpu
@pytest.mark.parametrize(("device", "gigabytes", "megacycles"), [("v4-32", 4, 70), ("v5e-8", 14, 250)])
def test_the_papers_network_for_a_tpu(device, gigabytes, megacycles):
    for phase in describe("configs/avs_cma.py", device, "--config.evals={}")["phases"]:
        assert phase["fits"] and phase["peak_bytes"] < gigabytes * 1e9
        assert phase["estimated_cycles_per_clip"] < megacycles * 1e6
        assert set(phase["collectives"]) == {"all-reduce"} and not phase["copies"]


@full
@gpu
def test_the_papers_network_for_a_gpu():
    for phase in describe("configs/avs_cma.py", "h100", "--config.evals={}")["phases"]:
        assert phase["fits"] and phase["peak_bytes"] < 56e9 and not phase["copies"]


def test_a_missing_compiler_is_said_with_how_to_install_it():
    if importlib.util.find_spec("libtpu"):
        pytest.skip("it is installed")
    command = [sys.executable, "-m", "cmav.describe", "--config=configs/demo.py", "--device=v5e-8"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "pip install '.[aot]'" in run.stderr and "Traceback" not in run.stderr
