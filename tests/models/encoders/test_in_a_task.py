"""Every pair of encoders makes a network that learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav import config as cmav_config
from cmav.tasks import make_task
from tests import tiny_config
from tests.models import fake_variables

RESIDUAL = dict(width=2, blocks=(1, 1), stride=4)
LOG_MEL = dict(mels=8, width=2, blocks=(1, 1), strides=((2, 2), (1, 1), (4, 2)))


@pytest.mark.parametrize(
    ("video", "audio"),
    [
        (("r2plus1d_18", RESIDUAL), ("log_mel_2d", LOG_MEL)),
        (("r3d_18", RESIDUAL), ("conv1d", dict(layers=tiny_config.get_config().model.audio.layers))),
    ],
    ids=["r2plus1d_18 and log_mel_2d", "r3d_18 and conv1d"],
)
def test_the_synchronization_task_has_finite_gradients_of_every_parameter(video, audio):
    config = tiny_config.get_config()
    config.data.crop_size = 8
    config.model.depth = 0  # Co-attention is the same for all encoders, and takes long to compile.
    with config.unlocked():
        config.model.video = cmav_config.encoder("video", video[0], **video[1])
        config.model.audio = cmav_config.encoder("audio", audio[0], **audio[1])
    task = make_task(config, config.phases[0])
    rng = np.random.default_rng(0)
    shapes = task.batch_shapes(2)
    batch = {
        "video": rng.integers(0, 256, shapes["video"].shape).astype(np.uint8),
        "audio": rng.integers(-9000, 9000, shapes["audio"].shape).astype(np.int16),
        "labels": np.array([[1.0, 0.0]] * 2, np.float32),
    }
    variables = fake_variables.draw(jax.eval_shape(task.init, jax.random.key(0)))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def step(params):
        variables_now = {**variables, "params": params}
        outputs, changed = task.apply(variables_now, batch, train=True, dropout_key=jax.random.key(0))
        return task.loss(outputs, batch)[0], changed

    (loss, changed), gradients = step(variables["params"])
    assert np.isfinite(loss)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((changed, gradients)))
    for stream in ("video_encoder", "audio_encoder"):
        kernels = [g for g in jax.tree.leaves(gradients["backbone"][stream]) if g.ndim > 1]
        assert min(abs(kernel).max() for kernel in kernels) > 0
