"""Checkpoints: exact, few, verified, and never mistaken for one another."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorflow as tf
from orbax.checkpoint._src.path import gcs_utils

from cmav.data.storage import StorageError
from cmav.errors import UserError
from cmav.training import checkpoint as checkpoint_module
from cmav.training import pretrained
from cmav.training.checkpoint import Checkpoints, list_whole


def make_items(seed: int = 0, width: int = 4, momentum: float | None = 0.9) -> dict:
    params = {"layer": {"kernel": jax.random.normal(jax.random.key(seed), (3, width)), "bias": jnp.zeros(width)}}
    optimizer = optax.sgd(0.1, momentum=momentum)
    return {
        "params": params,
        "model_state": {"batch_stats": {"mean": jnp.full(width, seed, jnp.float32)}},
        "opt_state": optimizer.init(params),
    }


def save(folder: pathlib.Path, step: int, items: dict, keep: int = 0) -> None:
    checkpoints = Checkpoints(str(folder), keep)
    checkpoints.save(step, items, {"step": step})
    checkpoints.close()


def restore(folder: pathlib.Path, template: dict, step: int | None = None):
    checkpoints = Checkpoints(str(folder))
    try:
        return checkpoints.restore(template, step)
    finally:
        checkpoints.close()


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


def damage(folder: pathlib.Path, step: int, item: str) -> None:
    """Overwrites the middle of the largest file of one item."""
    files = [path for path in (folder / "checkpoints" / str(step) / item).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    largest.write_bytes(bytes(data))


def test_restores_bit_for_bit(tmp_path):
    items = make_items(seed=3)
    save(tmp_path, 7, items)
    restored, metadata = restore(tmp_path, make_items(seed=4))
    assert_same(restored, items)
    assert metadata["step"] == 7


def test_nothing_there_is_none(tmp_path):
    assert restore(tmp_path, make_items()) is None


def test_an_optimizer_without_state_is_no_obstacle(tmp_path):
    items = make_items(seed=1, momentum=None)
    save(tmp_path, 1, items)
    restored, _ = restore(tmp_path, make_items(momentum=None))
    assert_same(restored, items)


def test_keeps_the_newest(tmp_path):
    checkpoints = Checkpoints(str(tmp_path), keep=2)
    for step in (1, 2, 3, 4):
        checkpoints.save(step, make_items(step), {"step": step})
    checkpoints.close()
    assert Checkpoints(str(tmp_path)).steps() == [3, 4]


def test_a_named_step(tmp_path):
    for step in (1, 2):
        save(tmp_path, step, make_items(step))
    restored, _ = restore(tmp_path, make_items(), step=1)
    assert_same(restored, make_items(1))
    with pytest.raises(UserError, match=r"no checkpoint of step 9 .*\[1, 2\]"):
        restore(tmp_path, make_items(), step=9)


@pytest.mark.parametrize("item", ["params", "model_state", "metadata"])
def test_damage_falls_back_to_the_step_before(tmp_path, item):
    for step in (1, 2):
        save(tmp_path, step, make_items(step))
    damage(tmp_path, 2, item)
    checkpoints = Checkpoints(str(tmp_path))
    restored, metadata = checkpoints.restore(make_items())
    assert metadata["step"] == 1
    assert_same(restored, make_items(1))
    # Training goes on from there and comes to step 2 again: the damaged one must not stand in the way.
    checkpoints.save(2, make_items(5), {"step": 2})
    checkpoints.close()
    assert_same(restore(tmp_path, make_items())[0], make_items(5))


def test_all_damaged_is_an_error_and_not_a_fresh_start(tmp_path):
    save(tmp_path, 1, make_items())
    damage(tmp_path, 1, "params")
    with pytest.raises(UserError, match="none of the checkpoints"):
        restore(tmp_path, make_items())


def test_a_save_that_was_cut_off_is_not_used(tmp_path):
    save(tmp_path, 1, make_items(1))
    save(tmp_path, 2, make_items(2))
    # What a kill in the middle of a save leaves behind: a folder under a temporary name.
    folder = tmp_path / "checkpoints"
    (folder / "2").rename(folder / "2.orbax-checkpoint-tmp-0")
    restored, metadata = restore(tmp_path, make_items())
    assert metadata["step"] == 1
    assert_same(restored, make_items(1))


@pytest.mark.parametrize("is_bucket", [False, True])
def test_all_agree_on_which_checkpoints_are_whole(tmp_path, monkeypatch, is_bucket):
    if is_bucket:  # An object store has no renaming: a folder has its name at once, and a file says that it is whole.
        monkeypatch.setattr(gcs_utils, "is_gcs_path", lambda path: True)
    for step in (3, 20, 100):
        save(tmp_path, step, make_items(step))
    folder = tmp_path / "checkpoints"
    if is_bucket:
        (folder / "100" / "commit_success.txt").unlink()
    else:
        (folder / "100").rename(folder / "100.orbax-checkpoint-tmp-0")
    (folder / "notes").mkdir()
    assert [path.name for path in list_whole(str(tmp_path))] == ["3", "20"]
    assert pretrained.has_checkpoints(str(tmp_path))
    assert Checkpoints(str(tmp_path)).steps() == [3, 20]
    for step in (3, 20):
        shutil.rmtree(folder / str(step))
    assert list_whole(str(tmp_path)) == [] and not pretrained.has_checkpoints(str(tmp_path))
    assert list_whole(str(tmp_path / "nowhere")) == []


def test_another_network_is_named_array_by_array(tmp_path):
    save(tmp_path, 1, make_items(width=4))
    with pytest.raises(UserError, match=r"params/layer/kernel is \(3, 4\) in the checkpoint, \(3, 5\) here"):
        restore(tmp_path, make_items(width=5))


def test_the_fingerprint_notices_what_the_format_does_not(tmp_path, monkeypatch):
    from cmav.training import checkpoint

    save(tmp_path, 1, make_items(1))
    save(tmp_path, 2, make_items(2))
    original = checkpoint.ocp.training.Checkpointer.load_checkpointables

    def flip_a_bit(self, step, *args, **kwargs):
        loaded = original(self, step, *args, **kwargs)
        if step == 2:
            kernel = loaded["params"]["layer"]["kernel"]
            loaded["params"]["layer"]["kernel"] = kernel.at[1, 1].set(jnp.nextafter(kernel[1, 1], jnp.inf))
        return loaded

    monkeypatch.setattr(checkpoint.ocp.training.Checkpointer, "load_checkpointables", flip_a_bit)
    _, metadata = restore(tmp_path, make_items())
    assert metadata["step"] == 1


def test_restores_what_was_saved_without_knowing_it(tmp_path):
    items = make_items(seed=3, width=6)
    save(tmp_path, 7, items)
    save(tmp_path, 9, make_items(seed=5, width=6))
    sharding = jax.tree.leaves(items)[0].sharding

    def restore_as_saved(step=None):
        return Checkpoints(str(tmp_path)).restore_as_saved(("params", "model_state"), sharding, step)

    restored, metadata = restore_as_saved(step=7)
    assert_same(restored, {name: items[name] for name in ("params", "model_state")})
    assert metadata["step"] == 7
    assert restore_as_saved()[1]["step"] == 9
    damage(tmp_path, 9, "params")
    restored, metadata = restore_as_saved()
    assert_same(restored["params"], items["params"])
    assert metadata["step"] == 7


EIO = "UNKNOWN: Error reading local file 'manifest.ocdbt': Input/output error [os_error_code='5']"


def failing(method, times, error):
    """The method, whose first so many calls raise the error once their work is done."""
    left = [times]

    def call(*args, **kwargs):
        result = method(*args, **kwargs)
        if left[0]:
            left[0] -= 1
            raise error
        return result

    return call


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(checkpoint_module, "DELAYS", (0.0, 0.0))


def test_reading_that_fails_is_no_damage(tmp_path, monkeypatch, caplog):
    """However often it fails, as long as each file can be read by itself."""
    items = make_items()
    save(tmp_path, 1, make_items(seed=1))
    save(tmp_path, 2, items)
    checkpoints = Checkpoints(str(tmp_path))
    monkeypatch.setattr(checkpoints, "_load", failing(checkpoints._load, 9, ValueError("incompatible handler")))
    restored, metadata = checkpoints.restore(items)
    assert metadata["step"] == 2 and "damaged" not in caplog.text
    jax.tree.map(np.testing.assert_array_equal, restored, items)


@pytest.mark.parametrize(
    "error",
    [StorageError("1/params: storage does not answer"), tf.errors.ResourceExhaustedError(None, None, "No space left")],
)
def test_where_not_even_the_bytes_can_be_read_nothing_is_called_damaged(tmp_path, monkeypatch, caplog, error):
    save(tmp_path, 1, make_items())
    checkpoints = Checkpoints(str(tmp_path))
    monkeypatch.setattr(checkpoints, "_load", failing(checkpoints._load, 9, ValueError("incompatible handler")))

    def unreadable(source, target):
        raise error

    monkeypatch.setattr(checkpoint_module, "copy_folder", unreadable)
    with pytest.raises(type(error)):
        checkpoints.restore(make_items())
    assert "damaged" not in caplog.text


def break_saving(monkeypatch, checkpoints, times, error):
    """The first so many savings write nothing, and say so when they are waited for."""
    checkpointer, left, is_broken = checkpoints._checkpointer, [times], [False]
    save, wait = checkpointer.save_checkpointables_async, checkpointer.wait

    def start(*args, **kwargs):
        is_broken[0] = left[0] > 0
        left[0] -= 1
        return None if is_broken[0] else save(*args, **kwargs)

    def finish():
        if is_broken[0]:
            raise error
        wait()

    monkeypatch.setattr(checkpointer, "save_checkpointables_async", start)
    monkeypatch.setattr(checkpointer, "wait", finish)


def test_the_last_save_is_tried_again(tmp_path, at_once, monkeypatch):
    checkpoints, items = Checkpoints(str(tmp_path)), make_items()
    break_saving(monkeypatch, checkpoints, 2, ValueError(EIO))
    checkpoints.save(5, items, {"step": 5})
    checkpoints.close()
    restored, _ = restore(tmp_path, items)
    jax.tree.map(np.testing.assert_array_equal, restored, items)


def test_a_save_that_failed_is_told_of_and_the_next_one_made(tmp_path, at_once, monkeypatch, caplog):
    checkpoints = Checkpoints(str(tmp_path))
    break_saving(monkeypatch, checkpoints, 1, ValueError(EIO))
    checkpoints.save(5, make_items(5), {"step": 5})
    checkpoints.save(6, make_items(6), {"step": 6})
    checkpoints.close()
    assert "step 5 could not be saved" in caplog.text and Checkpoints(str(tmp_path)).steps() == [6]


@pytest.mark.parametrize(("times", "error"), [(1, ValueError("No space left on device")), (9, ValueError(EIO))])
def test_a_full_disk_or_storage_that_stays_away_ends_it(tmp_path, at_once, monkeypatch, times, error):
    checkpoints = Checkpoints(str(tmp_path))
    break_saving(monkeypatch, checkpoints, times, error)
    checkpoints.save(5, make_items(), {"step": 5})
    words = "No space left" if times == 1 else r"step 5 could not be saved .* does not answer"
    with pytest.raises((ValueError, StorageError), match=words):
        checkpoints.wait()
