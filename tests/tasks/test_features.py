"""Layers pooled to vectors, and named."""

import jax.numpy as jnp
import numpy as np
import pytest

from cmav.errors import UserError
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
