"""Layers pooled to vectors, and named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.config import ENCODERS
from cmav.errors import UserError
from cmav.models.encoders.log_mel import LOG_OFFSET, log_mel
from cmav.tasks import features, make_task
from tests import tiny_config


def test_pools_whatever_lies_between_clip_and_channel():
    rng = np.random.default_rng(0)
    outputs = {"map": rng.normal(size=(2, 3, 4, 5, 6)), "tokens": rng.normal(size=(2, 3, 7)), "z": np.ones((2, 4))}
    pooled = features.pooled({key: jnp.asarray(x, jnp.bfloat16) for key, x in outputs.items()}, ("z", "map", "tokens"))
    assert pooled.shape == (2, 17) and pooled.dtype == jnp.float32
    expected = [outputs["z"], outputs["map"].mean(axis=(1, 2, 3)), outputs["tokens"].mean(axis=1)]
    np.testing.assert_allclose(pooled, np.concatenate(expected, axis=1), atol=0.01)  # bfloat16 has three digits


def test_layers_are_those_of_the_mode():
    config = tiny_config.get_action_config()
    config.action.num_classes = 3
    layers = {}
    for mode in ("full", "audio_only"):
        config.action.mode = mode
        layers[mode] = features.list_layers(make_task(config, config.phases[0]))
    assert {"features", "video/map", "audio/layer_3"} <= set(layers["full"])
    assert not any(layer.startswith("video/") for layer in layers["audio_only"])
    assert not {"logits", "targets"} & {*layers["full"], *layers["audio_only"]}
    task = make_task(config, config.phases[0])
    expected = ("features", *(f"audio/layer_{k}" for k in range(4)))
    assert features.find_layers(("features", "audio/layer_*"), task, "--layer") == expected
    with pytest.raises(UserError, match=r"--layer: the network has no layer 'video/map'; it has .*audio/map"):
        features.find_layers(("audio/map", "video/map"), task, "--layer")
    with pytest.raises(UserError, match="none of its layers"):
        features.find_layers((), task, "--layer")


def test_statistics_of_the_spectrogram_are_of_no_network():
    config = tiny_config.get_action_config()
    config.action.num_classes, config.action.mode, config.data.sample_rate = 3, "audio_only", 16_000
    task = make_task(config, config.phases[0])
    assert features.find_layers(("log_mel",), task, "--layer") == ("log_mel",)
    assert features.find_layers(("*",), task, "--layer") == tuple(features.list_layers(task))
    audio = np.random.default_rng(0).integers(-9000, 9000, (2, 16_000, 2), np.int16)
    batch = task.batch_of(None, jnp.asarray(audio), jnp.ones(2, bool))
    found = {}
    for seed in (0, 1):
        batch = {**batch, "label": jnp.zeros(2, int)}
        found[seed] = features.compute(task, task.init(jax.random.key(seed)), batch, ("log_mel", "audio/map"))
    np.testing.assert_array_equal(found[0][:, :160], found[1][:, :160])
    assert (np.asarray(found[0][:, 160:]) != np.asarray(found[1][:, 160:])).any()
    settings = ENCODERS["audio"]["log_mel_2d"]
    mels = np.asarray(log_mel(audio.astype(np.float32).mean(axis=-1) / 32768, 16_000, settings)) - np.log(LOG_OFFSET)
    np.testing.assert_allclose(found[0][:, :80], mels.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found[0][:, 80:160], mels.std(axis=1), rtol=1e-3)

    config.action.mode = "vision_only"
    with pytest.raises(UserError, match="no layer 'log_mel'"):
        features.find_layers(("log_mel",), make_task(config, config.phases[0]), "--layer")
