"""--verify finds what is wrong with a finished dataset, and names the record."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import index, schema, storage
from cmav.media.clips import ClipOptions
from cmav.media.manifest import Video
from cmav.prep import finish, shards
from cmav.prep.plan import Manifest, resolve
from cmav.prep.verify import verify
from tests import failing_storage

SIZE = 16


def clip(number: int, **changes) -> schema.Clip:
    jpeg = tf.io.encode_jpeg(np.full((SIZE, SIZE, 3), 9 * number, np.uint8)).numpy()
    audio = np.full((1600, 2), number + 1, np.int16)
    made = schema.Clip(f"v{number}_0", f"v{number}.mp4", 0.0, [jpeg] * 3, 30.0, audio, 16_000, True, number)
    return dataclasses.replace(made, **changes)


def write_dataset(folder, clips, monkeypatch) -> str:
    """Writes clips as they are, two to a shard, past all checks of preparation."""
    videos = [Video(one.source, str(number)) for number, one in enumerate(clips)]
    plan = resolve(str(folder), Manifest("/", {"train": videos}), "train", ClipOptions(size=SIZE), len(clips) // 2)
    monkeypatch.setattr(shards, "cut", lambda video, *_: iter([clips[int(video.name)]]))
    for shard in range(plan.num_shards):
        shards.build(plan.unit(shard, str(folder), "/"))
    finish.finish(str(folder), plan)
    return str(folder)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    return write_dataset(tmp_path, [clip(number) for number in range(4)], monkeypatch)


def shard(folder, number=0):
    return index.shard_path(folder, "train", number, 2)


def rewrite_index(folder, change):
    path = index.index_path(folder, "train")
    rows = np.load(path)
    buffer = io.BytesIO()
    np.save(buffer, change(rows))
    with open(path, "wb") as file:
        file.write(buffer.getvalue())


def test_a_good_dataset(dataset, capsys):
    assert verify(dataset, None, 2)
    assert "train: whole; 4 clips in 2 shards" in capsys.readouterr().out
    assert verify(dataset, "train", 2)


def test_a_flipped_bit(dataset, capsys):
    with open(shard(dataset), "r+b") as file:
        file.seek(300)
        byte = file.read(1)[0]
        file.seek(300)
        file.write(bytes([byte ^ 4]))
    assert not verify(dataset, None, 1)
    said = capsys.readouterr().out
    assert "train: 1 problems" in said and "record 0" in said and "checksum" in said


def test_a_truncated_shard(dataset, capsys):
    with open(shard(dataset, 1), "r+b") as file:
        file.truncate(file.seek(0, 2) - 10)
    assert not verify(dataset, None, 1)
    said = capsys.readouterr().out
    assert "record 3" in said and "bytes long" in said and "record 2" not in said


def test_a_missing_shard(dataset, capsys):
    tf.io.gfile.remove(shard(dataset, 1))
    assert not verify(dataset, None, 1)
    assert "is missing" in capsys.readouterr().out


def test_what_storage_does_not_give_is_no_problem_of_the_dataset(dataset, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        failed = failing_storage.fail(patch, failing_storage.kernel_error(), share=0.3)
        assert verify(dataset, None, 1)
    assert failed and "train: whole; 4 clips" in capsys.readouterr().out
    failing_storage.fail(monkeypatch, failing_storage.kernel_error(), share=1.0)
    with pytest.raises(storage.StorageError, match="storage does not answer"):
        verify(dataset, None, 1)


def test_bytes_behind_the_last_record(dataset, capsys):
    with open(shard(dataset), "ab") as file:
        file.write(b"more")
    assert not verify(dataset, None, 1)
    assert "its records end at byte" in capsys.readouterr().out


@pytest.mark.parametrize(
    "column, value, message",
    [("label", 9, "the index says"), ("seconds", 4.5, "the index says"), ("has_audio", False, "the index says")],
)
def test_an_index_that_disagrees(dataset, capsys, column, value, message):
    def change(rows):
        rows[1][column] = value
        return rows

    rewrite_index(dataset, change)
    assert not verify(dataset, None, 1)
    said = capsys.readouterr().out
    assert message in said and "record 1" in said and "1 problems" in said


def test_counts_that_disagree_with_the_metadata(dataset, capsys):
    rewrite_index(dataset, lambda rows: rows[:-1])
    assert not verify(dataset, None, 1)
    assert "the metadata counts 4 clips" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(audio=np.ones((1500, 2), np.int16)), "1500 samples of audio for 3 frames, 1600 expected"),
        (dict(has_audio=False), "has_audio is False"),
        (dict(frames=[tf.io.encode_jpeg(np.zeros((8, 8, 3), np.uint8)).numpy()] * 3), "frame is (8, 8, 3)"),
        (dict(frames=[b"no picture"] * 3), "record 1"),
        (dict(clip_id="v0_0"), "clip_id 'v0_0' is also that of record 0"),
    ],
)
def test_a_record_that_breaks_the_contract(tmp_path, monkeypatch, capsys, changes, message):
    clips = [clip(0), clip(1), clip(2, **changes), clip(3)]  # the third video is the first shard's second
    folder = write_dataset(tmp_path, clips, monkeypatch)
    assert not verify(folder, None, 1)
    said = capsys.readouterr().out
    assert message in said and "record 1 at byte" in said


def test_metadata_that_is_gone(dataset):
    tf.io.gfile.remove(f"{dataset}/dataset_info.json")
    with pytest.raises(index.DatasetError, match="no readable metadata"):
        verify(dataset, None, 1)
