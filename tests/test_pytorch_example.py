"""`examples/avs_in_pytorch.py` reads exported networks: it says what they say. Where PyTorch is installed."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from cmav.configs import avs_cma, demo, sync_grid
from cmav.sharing.export import export
from cmav.sharing.network import Network
from cmav.training import weights
from tests.commands import ROOT
from tests.test_embed import save_run

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("avs_in_pytorch", ROOT / "examples" / "avs_in_pytorch.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def changed(config, **model):
    config.model.update(model)
    return config


def small_paper():
    """The paper's network on small pictures, in float32."""
    config = changed(avs_cma.get_config(), dtype="float32")
    config.data.crop_size, config.phases = 40, (dict(frame_rate=7.5, batch_size=4, steps=9),)
    return config


CONFIGS = {
    "paper": small_paper,
    "aga, two deep": lambda: changed(demo.get_config(), attention="aga", depth=2),
    "vga, no positions, mean": lambda: changed(demo.get_config(), attention="vga", positions="none", fusion="mean"),
    "compares moments": sync_grid.get_config,
    "fewer tokens to fuse": lambda: changed(demo.get_config(), fusion_tokens=4),
    "more tokens to fuse": lambda: changed(demo.get_config(), fusion_tokens=16),
}


@pytest.mark.parametrize("name", ["that comes with cmav", *CONFIGS])
def test_pytorch_says_what_the_network_says(example, tmp_path, name):
    folder = weights.SHIPPED / "demo"
    if name in CONFIGS:
        folder = tmp_path / "out"
        export(save_run(tmp_path / "run", CONFIGS[name]()), str(folder), programs=False)
    ours, theirs = Network.load(folder), example.load(folder)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, ours.num_frames, ours.size, ours.size, 3), np.uint8)
    samples = rng.integers(-9000, 9000, (2, ours.num_samples, 2)).astype(np.int16)
    with torch.no_grad():
        seen, heard = theirs.encode_video(torch.tensor(frames)), theirs.encode_audio(torch.tensor(samples))
        logits = theirs(torch.tensor(frames), torch.tensor(samples[None].repeat(2, axis=0)))
    np.testing.assert_allclose(seen, ours.encode_video(frames), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(heard, ours.encode_audio(samples), rtol=1e-4, atol=1e-4)
    wanted = [ours.compare(*map(np.asarray, (seen, heard[[k, k]]))) for k in range(2)]
    np.testing.assert_allclose(logits, np.stack(wanted, axis=1), rtol=1e-4, atol=1e-4)
    assert np.ptp(wanted) > 1e-3


def test_what_it_does_not_read_is_refused(example):
    config = json.loads((weights.SHIPPED / "demo" / "config.json").read_text())
    config["model"]["video"]["name"] = "multisensory"
    with pytest.raises(ValueError, match="is not what this example reads"):
        example.AvsNet(config)
