"""The record contract: what goes in comes out, and TFDS reads the same."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from cmav.data import schema
from tests import fake_clips


def make_clip(**changes):
    clip = fake_clips.make_clip(3, seconds=0.5, size=16, label=7)
    return dataclasses.replace(clip, start_seconds=12.5, splits=("train1", "test2"), **changes)


def test_parse_gives_back_what_was_encoded():
    clip = make_clip(source="Ordner/Mädchen mit 🎺.mp4", label_name="playing trumpet")
    record = schema.parse(tf.constant(schema.encode(clip)))
    assert record["clip_id"].numpy().decode() == clip.clip_id
    assert record["source"].numpy().decode() == clip.source
    assert record["label_name"].numpy().decode() == clip.label_name
    assert record["frames"].numpy().tolist() == list(clip.frames)
    assert record["splits"].numpy().tolist() == [b"train1", b"test2"]
    assert record["start_seconds"].numpy() == 12.5
    assert record["frame_rate"].numpy() == np.float32(clip.frame_rate)
    assert (record["sample_rate"].numpy(), record["label"].numpy(), record["has_audio"].numpy()) == (21_000, 7, True)
    assert record["audio"].dtype == tf.int16
    np.testing.assert_array_equal(record["audio"], clip.audio)


def test_no_label_no_audio_no_splits():
    clip = fake_clips.make_clip(0, seconds=0.5, size=16, has_audio=False)
    record = schema.parse(tf.constant(schema.encode(clip)))
    assert record["label"].numpy() == schema.NO_LABEL
    assert record["label_name"].numpy() == b""
    assert record["splits"].shape == [0]
    assert not record["has_audio"].numpy()
    assert not record["audio"].numpy().any()


def test_a_sound_without_pictures():
    clip = make_clip(frames=[])
    assert clip.seconds == pytest.approx(0.5)
    record = schema.parse(tf.constant(schema.encode(clip)))
    assert record["frames"].shape == [0] and record["has_audio"].numpy()
    np.testing.assert_array_equal(record["audio"], clip.audio)


def test_same_clip_same_bytes():
    assert schema.encode(make_clip()) == schema.encode(make_clip())
    assert schema.encode(make_clip()) != schema.encode(make_clip(source="another.mp4"))


def test_file_names_that_are_not_unicode_stay_apart():
    names = [b"caf\xe9".decode("utf-8", "surrogateescape"), b"caf\xe8".decode("utf-8", "surrogateescape")]
    records = [schema.parse(tf.constant(schema.encode(make_clip(clip_id=name, source=name)))) for name in names]
    assert records[0]["clip_id"].numpy().decode() != records[1]["clip_id"].numpy().decode()


@pytest.mark.parametrize(
    "changes, complaint",
    [
        (dict(frames=[], has_audio=False), "neither frames nor sound"),
        (dict(audio=np.zeros((100, 2), np.float32)), "float32"),
        (dict(audio=np.zeros((100, 1), np.int16)), r"\[100, 1\]"),
        (dict(audio=np.zeros(100, np.int16)), r"\[100\]"),
        (dict(frame_rate=0.0), "positive"),
        (dict(sample_rate=-1), "positive"),
    ],
)
def test_a_clip_that_breaks_the_contract_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        schema.encode(make_clip(**changes))
    assert "fake0003_0" in str(error.value)


def test_tfds_opens_a_folder_and_reads_the_same(tmp_path):
    index = fake_clips.write_dataset(tmp_path, "train", 5, seconds=0.5, size=16, num_shards=2, num_labels=2)
    tfds.folder_dataset.write_metadata(
        data_dir=str(tmp_path),
        features=schema.tfds_features(size=16),
        split_infos=[
            tfds.core.SplitInfo(
                name="train",
                shard_lengths=np.bincount(index.rows["shard"]).tolist(),
                num_bytes=int(index.rows["length"].sum()),
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=str(tmp_path),
                    template=schema.FILENAME_TEMPLATE,
                    dataset_name=schema.DATASET_NAME,
                    split="train",
                    filetype_suffix="tfrecord",
                ),
            )
        ],
    )
    builder = tfds.builder_from_directory(tmp_path)
    assert builder.info.splits["train"].num_examples == 5
    dataset = builder.as_dataset(split="train", decoders={"frames": tfds.decode.SkipDecoding()})
    examples = {example["clip_id"].numpy(): example for example in dataset}
    assert len(examples) == 5
    for number in range(5):
        ours = schema.parse(tf.constant(index.read(number)))
        theirs = examples[ours["clip_id"].numpy()]
        assert set(theirs) == set(ours)
        for key, value in ours.items():
            np.testing.assert_array_equal(theirs[key], value, err_msg=key)
