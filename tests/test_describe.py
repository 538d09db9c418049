import json
import math
import subprocess
import sys

import jax
import pytest

from cmav import config as cmav_config
from cmav import describe
from cmav.tasks import make_task
from cmav.training import costs
from tests import tiny_config
from tests.models import reference

# Runs the program as `python -m cmav.describe` does, and ends with status 3 where it has loaded TensorFlow.
COMMAND = """
import runpy, sys
try:
    runpy.run_module("cmav.describe", run_name="__main__")
finally:
    if "tensorflow" in sys.modules:
        sys.exit(3)
"""


def test_json_is_all_that_is_printed_and_tensorflow_is_not_loaded():
    args = [sys.executable, "-c", COMMAND, "--config=configs/avs_cma.py", "--json"]
    run = subprocess.run(args, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    described = json.loads(run.stdout)
    assert set(described) == {"parameters", "phases"}
    assert 14.5e6 <= described["parameters"] <= 15.5e6
    slow, full = described["phases"]
    assert (slow["frame_rate"], slow["batch_size"], slow["video_tokens"], slow["audio_tokens"]) == (7.5, 64, 2, 8)
    assert (full["frame_rate"], full["batch_size"], full["video_tokens"], full["audio_tokens"]) == (29.97, 32, 8, 8)
    assert full["gflops_per_clip"] == pytest.approx(634, rel=0.01)


def test_tables_are_printed(capsys):
    config = tiny_config.get_config()
    params = jax.eval_shape(make_task(config, config.phases[0]).init, jax.random.key(0))["params"]
    describe._print_tables(params, [costs.describe_phase(config, config.phases[0])])
    printed = capsys.readouterr().out
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert f"{total:,}" in printed and "0_video_guided" in printed and "5 Hz" in printed


def test_rows_add_up():
    params = {"a": {"b": {"kernel": jax.ShapeDtypeStruct((2, 3), "float32")}, "c": {"d": {"e": {"bias": _vector(4)}}}}}
    assert list(costs.parameter_rows(params)) == [(0, "a", 10), (1, "b", 6), (1, "c", 4), (2, "d", 4)]
    assert list(costs.parameter_rows(params, depth=1)) == [(0, "a", 10)]


def _vector(length):
    return jax.ShapeDtypeStruct((length,), "float32")


def test_flops_agree_with_a_count_of_multiplications():
    config = tiny_config.get_config()
    cost = costs.describe_phase(config, config.phases[1])
    model = config.model
    convolutions = _conv_multiplications(model.video.layers, (20, 16, 16), 3)
    convolutions += 2 * _conv_multiplications(model.audio.layers, (2000,), 2)
    n, m, size = cost.video_tokens, cost.audio_tokens, model.hidden_size
    linear = n * 16 * size + 2 * m * 16 * size
    for queries, keys in ((m, n), (n, m), (m, m), (n, n)):
        projections = 2 * size * size * (queries + keys)
        linear += 2 * (projections + 2 * queries * keys * size + 2 * queries * size * model.mlp_size)
    counted = 2 * (convolutions + linear) / 1e9
    # BatchNorm, pooling and other sums are counted too: little, but not nothing in a network this small.
    assert counted < cost.gflops_per_clip < 1.15 * counted


def _conv_multiplications(layers, axes, channels):
    """Of all convolutions; taps on the padding are not counted."""
    count = 0
    for kind, *args in layers:
        *features, kernel, strides = args
        windows = list(reference.windows(axes, kernel, strides))
        if kind == "conv":
            count += sum(len(taps) for _, taps in windows) * channels * features[0]
            channels = features[0]
        axes = tuple(-(-n // s) for n, s in zip(axes, strides, strict=True))
    return count


def activation_bytes(config, phase):
    task = make_task(config, config.phases[phase])
    return costs.activation_bytes(task, jax.eval_shape(task.init, jax.random.key(0)))


def test_activation_memory_follows_remat_dtype_and_frames():
    def kept(remat="none", dtype="float32", phase=1):
        config = tiny_config.get_config()
        config.model.update(remat=remat, dtype=dtype)
        return activation_bytes(config, phase)

    plain, stem = kept(), kept("stem")
    assert plain - stem > 20 * 8 * 8 * 8 * 4  # the stem's output: frames, height, width, channels, bytes
    assert kept("encoders") < stem
    assert kept(dtype="bfloat16") < plain
    assert kept(phase=0) < plain  # half of the frames


def test_the_stem_is_kept_once_at_full_size():
    config = cmav_config.get_default()
    stem_output = 126 * 224 * 224 * 64 * 2  # 809 MB
    assert stem_output < activation_bytes(config, phase=1) < 2 * stem_output
    config.model.remat = "none"
    assert activation_bytes(config, phase=1) > 2 * stem_output
