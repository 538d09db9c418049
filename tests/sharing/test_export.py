"""From a run to a folder and back: the same numbers, to the bit; programs that need no cmav; what is refused."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from cmav.errors import UserError
from cmav.offsets.calibration import Calibration
from cmav.sharing import functions
from cmav.sharing.export import export
from cmav.training import evaluate_run, frozen, inheritance, preflight, pretrained, weights
from cmav.trees import flatten
from tests import fake_clips, tiny_config
from tests.tasks.test_multisensory import with_multisensory
from tests.test_embed import save_run


def action_config():
    config = tiny_config.get_action_config()
    config.action.num_classes = 5
    return config


def multisensory_config():
    return with_multisensory(tiny_config.get_config(), width=2)


CONFIGS = {
    "avs": tiny_config.get_config,
    "multisensory": multisensory_config,
    "cmac": tiny_config.get_cmac_config,
    "action": action_config,
}


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request, tmp_path_factory):
    """A run of a task, and the folder of its network."""
    folder = tmp_path_factory.mktemp(request.param)
    run = save_run(folder / "run", CONFIGS[request.param](), steps=(9, 12))
    (folder / "run" / "summary.json").write_text(
        '{"steps": 12, "seconds": 3.0, "parameters": 10, "avs_accuracy": 0.75, "avs_accuracy_interval": [0.6, 0.9]}'
    )
    export(run, str(folder / "out"))
    return run, folder / "out"


def arrays_of(network):
    return flatten(jax.device_get(network.variables))


def test_the_network_is_the_runs_to_the_bit(exported):
    run, out = exported
    ours, theirs = frozen.load(str(out)), frozen.load(run)
    assert (ours.step, ours.checksum(), ours.task) == (12, theirs.checksum(), theirs.task)
    wanted = arrays_of(theirs)
    for path, array in arrays_of(ours).items():
        np.testing.assert_array_equal(array, wanted[path], err_msg=path)
    assert frozen.load_to_embed(str(out)).checksum() == frozen.load_to_embed(run).checksum()


def test_others_read_the_tensors(exported):
    run, out = exported
    tensors = safetensors.numpy.load_file(out / "model.safetensors")
    saved, _ = pretrained.restore(
        run, 12, ("params", "model_state"), jax.sharding.SingleDeviceSharding(jax.devices()[0])
    )
    paths = flatten({"params": saved["params"], **saved["model_state"]})
    assert {name.replace(".", "/"): x.shape for name, x in tensors.items()} == {p: x.shape for p, x in paths.items()}
    for path, array in paths.items():
        np.testing.assert_array_equal(tensors[path.replace("/", ".")], array, err_msg=path)


@pytest.mark.parametrize("size", [1, 3])
def test_programs_say_what_the_network_says(exported, size):
    """Of any number of clips, on the platform of the tests; each is of all platforms."""
    _, out = exported
    network = frozen.load_whole(str(out))
    known = functions.list_functions(network.task, network.variables)
    assert {path.stem for path in (out / "stablehlo").iterdir()} == set(known) and known
    rng = np.random.default_rng(size)
    for name, function in known.items():
        program = jax.export.deserialize((out / "stablehlo" / f"{name}.bin").read_bytes())
        assert program.platforms == functions.PLATFORMS
        inputs = [drawn(rng, (size, *x.shape), x.dtype) for x in function.inputs.values()]
        wanted = np.asarray(jax.jit(function.call)(network.variables, *inputs))
        np.testing.assert_allclose(program.call(*inputs), wanted, atol=1e-4, rtol=1e-4, err_msg=name)
        assert wanted.any() and len(wanted) == size


def drawn(rng, shape, dtype):
    if np.issubdtype(dtype, bool):
        return np.ones(shape, bool)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, 200, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def test_its_card_says_what_was_measured_and_how_it_is_used(exported):
    _, out = exported
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: cmav\n") and 'cmav.load("out")' in card
    assert "| `avs_accuracy` | 0.75" in card and "0.6 to 0.9" in card and "| steps" in card
    assert all(f"stablehlo/{path.name}" in card for path in (out / "stablehlo").iterdir())


def test_fine_tuning_starts_from_it(tmp_path):
    run = save_run(tmp_path / "run", tiny_config.get_config())
    export(run, str(tmp_path / "out"), programs=False)
    assert not (tmp_path / "out" / "stablehlo").exists()
    configs = []
    for checkpoint in (run, str(tmp_path / "out")):
        config = action_config()
        config.init.checkpoint = checkpoint
        configs.append(inheritance.resolve_config(config, str(tmp_path / "new"), {}))
    assert configs[1].init.checkpoint == str(tmp_path / "out")
    configs[1].init.checkpoint = configs[0].init.checkpoint
    assert configs[0].to_dict() == configs[1].to_dict()


def test_nothing_is_written_over_and_nothing_goes_on_in_it(tmp_path):
    config = tiny_config.get_config()
    run = save_run(tmp_path / "run", config)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match="has something in it already"):
        export(run, str(tmp_path / "mine"))
    export(run, str(tmp_path / "out"), programs=False)
    with pytest.raises(UserError, match="exported network, which cannot go on"):
        preflight.plan(config, str(tmp_path / "out"), None)


def test_it_is_evaluated_as_its_run(tmp_path):
    fake_clips.write_dataset(tmp_path / "data", "train", 12, **tiny_config.CLIPS)
    config = tiny_config.get_config()
    config.data.dir = str(tmp_path / "data")
    run = save_run(tmp_path / "run", config)
    export(run, str(tmp_path / "out"), programs=False)
    ours, theirs = (evaluate_run.evaluate(config, tmp_path / name, "train") for name in ("out", "run"))
    assert ours == theirs and ours["step"] == 9


def test_it_has_no_folders_of_checkpoints(tmp_path):
    run = save_run(tmp_path / "run", tiny_config.get_config())
    export(run, str(tmp_path / "out"), programs=False)
    with pytest.raises(UserError, match="there are no checkpoints in"):
        frozen.load(str(tmp_path / "out" / "checkpoints" / "9"))


def test_a_calibration_goes_along_if_it_is_of_the_step(tmp_path):
    run = save_run(tmp_path / "run", tiny_config.get_config(), steps=(9, 12))
    Calibration(fitted_on={"step": 12}).save(tmp_path / "run")
    for step, has_it in ((9, False), (12, True)):
        export(f"{run}/checkpoints/{step}", str(tmp_path / f"{step}"), programs=False)
        assert (tmp_path / f"{step}" / "offset_calibration.json").exists() == has_it


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_damaged_weights_are_named(tmp_path, damage):
    run = save_run(tmp_path / "run", tiny_config.get_config())
    export(run, str(tmp_path / "out"), programs=False)
    (tmp_path / "out" / weights.NAME).write_bytes(damage)
    with pytest.raises(UserError, match=r"model.safetensors is damaged"):
        frozen.load(str(tmp_path / "out"))
