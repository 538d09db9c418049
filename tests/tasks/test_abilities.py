"""What tasks say that they can be asked, they can be asked."""

import dataclasses
import inspect

import jax
import pytest

from cmav import config as cmav_config
from cmav import distributed
from cmav.evals.evaluators import EVALUATORS, make_evaluators
from cmav.tasks import TASKS, base, make_task
from cmav.tasks.base import Bands, Classes, Embeddings, Maps, Offsets, Pairs
from tests import tiny_config

ABILITIES = {one for one in vars(base).values() if inspect.isclass(one) and base.Task in one.__bases__}


def make(get_config, **changes):
    config = get_config()
    with config.unlocked():
        config.update_from_flattened_dict({"action.num_classes": 3, **changes})
    return make_task(config, config.phases[0])


def without_bands():
    config = tiny_config.get_cmac_config()
    config.model.audio, config.cmac.audio_consistency = cmav_config.encoder("audio", "conv1d"), 0.0
    return config


MULTISENSORY = {
    f"model.{stream}": cmav_config.encoder(stream, "multisensory", width=2) for stream in ("video", "audio")
}
CASES = {
    "avs": (make(tiny_config.get_config), {Pairs, Maps, Offsets}),
    "avs that fuses early": (make(tiny_config.get_config, **MULTISENSORY), {Pairs, Maps, Offsets}),
    "cmac": (make(tiny_config.get_cmac_config), {Embeddings, Bands, Maps}),
    "cmac without frequencies": (make(without_bands), {Embeddings, Maps}),
    "action": (make(tiny_config.get_action_config), {Classes, Maps}),
    "action that fuses early": (make(tiny_config.get_action_config, **MULTISENSORY), {Classes}),
    "action of pictures": (make(tiny_config.get_action_config, **{"action.mode": "vision_only"}), {Classes}),
    "action of sounds": (make(tiny_config.get_action_config, **{"action.mode": "audio_only"}), {Classes}),
}


def test_all_are_looked_at():
    assert {type(task) for task, _ in CASES.values()} == set(TASKS.values())
    assert {Pairs, Classes, Embeddings, Bands, Maps, Offsets} <= ABILITIES
    assert set.union(*(set(stated) for _, stated in CASES.values())) == ABILITIES
    assert {evaluator.needs for evaluator in EVALUATORS.values()} <= ABILITIES


@pytest.mark.parametrize("name", CASES)
def test_a_task_has_the_attributes_of_the_abilities_that_it_states(name):
    task, stated = CASES[name]
    assert task.abilities == stated
    for ability in stated:
        assert isinstance(task, ability), ability
    if Maps in stated:
        assert task.map_methods()
    if Pairs in stated:
        assert task.batch_shapes(1)["audio"].shape[1] == task.num_audios
    if Bands in stated:
        variables = jax.eval_shape(task.init, jax.random.key(0))
        outputs, _ = jax.eval_shape(lambda v, b: task.apply(v, b, train=False), variables, task.batch_shapes(2))
        attentions = jax.eval_shape(task.audio_attentions, outputs)
        assert {name: x.ndim for name, x in attentions.items()} == dict.fromkeys(task.audio_attention_meanings, 3)


def test_an_ability_that_is_stated_and_not_there_is_an_error():
    @dataclasses.dataclass(frozen=True)
    class Boasting(TASKS["avs"]):
        abilities = frozenset({Embeddings})

    config = tiny_config.get_config()
    config.evals = {"retrieval": dict(type="retrieval", every=1, batch_size=8, clips=0)}
    task = Boasting.from_config(config, config.phases[0])
    with pytest.raises(TypeError, match="Boasting states the ability Embeddings, but has not all of it"):
        make_evaluators(config, task, distributed.make_mesh())
