"""The network that fuses early in its tasks: it learns, shows where the sound is, and is fine-tuned."""

import functools
import json

import jax
import numpy as np
import pytest

from cmav import config as cmav_config
from cmav import distributed
from cmav.errors import UserError
from cmav.localization.task import LocalizationTask, find_maps
from cmav.tasks import make_task
from cmav.training import evaluate_run, finetune, train
from cmav.training.optim import make_optimizer, make_schedule
from tests import fake_clips, tiny_config
from tests.training.test_pretrained import save_run

CLIPS = {**tiny_config.CLIPS, "sample_rate": 2000}
STEPS, BATCH_SIZE = 60, 16


def with_multisensory(config, width=4):
    config.data.sample_rate = CLIPS["sample_rate"]
    with config.unlocked():
        for stream in ("video", "audio"):
            config.model[stream] = cmav_config.encoder(stream, "multisensory", width=width)
    config.model.remat = "none"
    return config


def draw_flashes(rng, count):
    """Clips of 2 s in whose pictures it flashes once; the first sound bursts at that moment, the second at another."""
    moments_Bx2 = np.stack([rng.permutation(5)[:2] for _ in range(count)])
    lit_BxT = np.arange(20) // 4 == moments_Bx2[:, :1]
    heard_Bx2xS = np.arange(4000) // 800 == moments_Bx2[:, :, None]
    video = rng.integers(0, 60, (count, 20, 12, 12, 3)) + 150 * lit_BxT[:, :, None, None, None]
    audio = rng.uniform(-8000, 8000, (count, 2, 4000, 2)) * heard_Bx2xS[..., None]
    labels = np.tile(np.float32([1, 0]), (count, 1))
    return {"video": video.astype(np.uint8), "audio": audio.astype(np.int16), "labels": labels}


def test_it_learns_what_is_in_sync():
    config = with_multisensory(tiny_config.get_config())
    config.data.crop_size = 12
    config.optim.learning_rate = 3e-3
    config.phases = (dict(frame_rate=10.0, batch_size=BATCH_SIZE, steps=STEPS),)
    task = make_task(config, config.phases[0])
    optimizer = make_optimizer(config.optim, make_schedule(config.optim, STEPS))
    step = jax.jit(functools.partial(train.train_step, task=task, optimizer=optimizer, seed=0))
    state = train.create_state(config, task, optimizer, distributed.make_mesh())
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        state, _ = step(state, draw_flashes(rng, BATCH_SIZE))

    @jax.jit
    def judge(variables, batch):
        outputs, _ = task.apply(variables, batch, train=False)
        return task.loss(outputs, batch)[1]["accuracy"]

    accuracy = judge({"params": state.params, **state.model_state}, draw_flashes(rng, 64))
    assert accuracy > 0.85


def test_a_run_is_trained_and_evaluated_again(tmp_path):
    for split, count in (("train", 12), ("validation", 6)):
        fake_clips.write_dataset(tmp_path / "clips", split, count, **CLIPS)
    config = with_multisensory(tiny_config.get_config(), width=2)
    config.data.dir = str(tmp_path / "clips")
    config.phases = (dict(frame_rate=10.0, batch_size=4, steps=2),)
    config.evals.pretext.batch_size = 4
    with config.unlocked():
        config.evals.localization = cmav_config.get_default("avs").evals.localization
    config.evals.localization.methods, config.evals.localization.batch_size = ("cam",), 4
    train.train(config, str(tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    again = evaluate_run.evaluate(config, tmp_path / "run")
    assert summary["steps"] == 2 and summary["avs_accuracy"] == again["pretext/avs_accuracy"]
    assert (tmp_path / "run" / "localization_validation.png").exists()


def test_maps_of_whole_pictures_and_finer_ones():
    config = with_multisensory(tiny_config.get_config())
    task = make_task(config, config.phases[1])
    variables = jax.eval_shape(task.init, jax.random.key(0))
    for stride, places in ((None, 2), (8, 5)):
        whole = LocalizationTask.of(task, size=40, stride=stride)
        batch = {
            "video": jax.ShapeDtypeStruct((2, 20, 40, 40, 3), np.uint8),
            "audio": jax.ShapeDtypeStruct((2, 4000, 2), np.int16),
        }
        found = jax.eval_shape(functools.partial(find_maps, task=whole, methods=("cam",)), variables, batch)
        assert found["cam"].shape == (2, len(whole.token_times), *map(len, whole.centres)) == (2, 3, places, places)
    with pytest.raises(UserError, match="A stride of 5 pixels"):
        LocalizationTask.of(task, size=40, stride=5)


@pytest.mark.parametrize("mode", ["full", "vision_only"])
def test_its_backbone_is_fine_tuned(tmp_path, mode):
    for split, seed in (("train1", 0), ("test1", 1)):
        fake_clips.write_dataset(tmp_path / "clips", split, 8, num_labels=3, silent=(1, 4), seed=seed, **CLIPS)
    save_run(tmp_path / "pretrained", with_multisensory(tiny_config.get_config(), width=2), steps=(12,))
    config = tiny_config.get_action_config()  # The network is that of the run.
    config.data.dir, config.init.checkpoint = str(tmp_path / "clips"), str(tmp_path / "pretrained")
    config.action.num_classes, config.action.mode = 3, mode
    config.phases = (dict(frame_rate=10.0, batch_size=8, steps=2),)
    numbers = finetune.finetune(config, str(tmp_path / "run"), {})
    assert numbers["steps"] == 2 and numbers["videos"] == 8 and 0 <= numbers["top1"] <= 1


def test_what_it_has_not_is_refused():
    for section, key in (("loss", "alignment_weight"), ("model", "fusion_moments")):
        config = with_multisensory(tiny_config.get_config())
        config[section][key] = 0.5
        with pytest.raises(UserError, match=rf"config\.{section}\.{key}=0\.5.*'multisensory' there are none"):
            make_task(config, config.phases[0])
    config = with_multisensory(tiny_config.get_action_config())
    config.action.num_classes, config.action.mode = 3, "audio_only"
    with pytest.raises(UserError, match=r"config\.action\.mode='audio_only'.*no network of sound alone"):
        make_task(config, config.phases[0])
