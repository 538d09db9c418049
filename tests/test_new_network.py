"""The worked example of `docs/new_network.md` runs: a new encoder, network and task, as the page has them."""

import contextlib
import importlib.util
import pathlib
import re
import sys
import types
from unittest import mock

import jax
import numpy as np
import pytest

from cmav import config as cmav_config
from cmav import report, tasks
from cmav.errors import UserError
from cmav.models import encoders
from cmav.tasks import make_task
from cmav.tasks.features import list_layers
from cmav.training import frozen, train
from tests import fake_clips, tiny_config
from tests.models import fake_variables

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "new_network.md"
BLOCKS = re.findall(r"^```python\n# (\S+)\.py\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def followed():
    """All that the page says to write is written, in memory: new files are modules, and lines are added to dicts."""
    dicts = (encoders.VIDEO, cmav_config.ENCODERS["video"], tasks.TASKS, cmav_config._TASK_DEFAULTS)
    new = []
    with contextlib.ExitStack() as stack:
        for each in dicts:
            stack.enter_context(mock.patch.dict(each))
        for path, code in BLOCKS:
            name = path.removesuffix("/__init__").replace("/", ".")
            compiled = compile(code, f"{path}.py", "exec")
            if importlib.util.find_spec(name):
                exec(compiled, dict(vars(importlib.import_module(name))))
            else:
                new.append(name)
                sys.modules[name] = types.ModuleType(name)
                exec(compiled, vars(sys.modules[name]))
        yield
    for name in new:
        del sys.modules[name]


def tiny(task):
    """Of a task, with the tiny config's network and clips, and the page's encoder."""
    config, small = cmav_config.get_default(task), tiny_config.get_config()
    config.phases = (dict(frame_rate=10.0, batch_size=8, steps=2),)
    config.data, config.model, config.optim = small.data, small.model, small.optim
    config.model.depth = 0
    config.model.video = cmav_config.encoder("video", "patches", width=8, side=4)
    return config


def test_a_place_of_the_map_sees_its_patch_and_no_other():
    config = tiny("avs")
    config.model.lock()
    task = make_task(config, config.phases[0])
    encoder = encoders.video(task.model_config)
    frames = np.random.default_rng(0).integers(0, 256, (1, 2, 16, 12, 3)).astype(np.uint8)
    shapes = jax.eval_shape(lambda key: encoder.init(key, frames, rate=10.0, train=False), jax.random.key(0))
    variables = fake_variables.draw(shapes)
    kernel = variables["params"]["layer_0"]["kernel"]
    norm, stats = variables["params"]["layer_0"]["norm"], variables["batch_stats"]["layer_0"]["norm"]

    tokens, out = encoder.apply(variables, frames, rate=10.0, train=False)
    assert out["map"].shape == (1, 2, 4, 3, 8) and tokens.shape == (1, 2, task.model_config.hidden_size)
    for t, row, column in np.ndindex(2, 4, 3):
        patch = frames[0, t, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] / 127.5 - 1
        x = np.einsum("hwc,hwcd->d", patch, kernel[0].astype(np.float64))
        x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * norm["scale"] + norm["bias"]
        np.testing.assert_allclose(out["map"][0, t, row, column], np.maximum(x, 0), atol=1e-4)
    rows, columns = encoder.places((16, 12))
    np.testing.assert_allclose(rows, [2 / 16, 6 / 16, 10 / 16, 14 / 16])
    np.testing.assert_allclose(columns, [2 / 12, 6 / 12, 10 / 12])
    assert encoder.stride == 4 and encoder.finer(4) == encoder.settings
    with pytest.raises(UserError, match="no places 2 pixels apart"):
        encoder.finer(2)


@pytest.mark.parametrize(
    ("settings", "said"), [({"side": 0}, "side=0 must be at least 1"), ({"widht": 3}, "'patches' has the settings")]
)
def test_settings_of_the_new_encoder_are_checked(settings, said):
    config = tiny("avs")
    with config.unlocked():
        config.model.video = {**config.model.video, **settings}
    with pytest.raises(UserError, match=said):
        encoders.check(config.model)


def test_the_new_task_trains_and_other_commands_take_its_run(tmp_path):
    for split, count in (("train", 24), ("validation", 11)):
        fake_clips.write_dataset(tmp_path / "clips", split, count, seed=count, **tiny_config.CLIPS)
    config = tiny("correspondence")
    config.data.dir = str(tmp_path / "clips")
    config.evals.retrieval.batch_size = 8
    state = train.train(config, str(tmp_path / "run"))
    assert int(state.step) == 2 and (tmp_path / "run" / "retrieval_validation.json").exists()
    page = report.write(str(tmp_path / "run")).read_text()
    assert "which of the 11 sounds belongs to these pictures?" in page
    network = frozen.load_to_embed(str(tmp_path / "run"))
    assert network.step == 2 and "features" in list_layers(network.task)


def test_loss_of_the_new_task_is_that_of_own_and_other_pairs():
    task = make_task(tiny("correspondence"), dict(frame_rate=10.0))
    video, audio = np.random.default_rng(1).normal(size=(2, 5, 6))
    loss, metrics = task.loss({"video/mean": video, "audio/mean": audio}, {})
    losses, right = [], []
    for i in range(5):
        for j, sign in ((i, 1), (i - 1, -1)):
            cosine = video[i] @ audio[j] / np.linalg.norm(video[i]) / np.linalg.norm(audio[j])
            losses.append(np.log1p(np.exp(-sign * cosine / 0.1)))
            right.append(sign * cosine > 0)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(right))
