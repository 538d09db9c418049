"""A split against the config: what does not fit is said with both numbers and the remedy."""

import dataclasses
import logging

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import checks, index
from cmav.data.clip_shape import ClipShape
from tests import fake_clips

SIZE = 16
CLIP = dict(seconds=1.0, size=SIZE, frame_rate=10.0, sample_rate=500)


@pytest.fixture
def split(tmp_path):
    return fake_clips.write_dataset(tmp_path, "train", 3, **CLIP)


def test_usable_records(tmp_path):
    seconds = [1.0, 0.5, 1.2, 0.9, 1.0, 1.1]
    clips = [
        fake_clips.make_clip(number, has_audio=number != 2, **CLIP | dict(seconds=length))
        for number, length in enumerate(seconds)
    ]
    split = fake_clips.write_clips(tmp_path, "train", clips)
    assert checks.usable_records(split, min_seconds=1.0, need_audio=True).tolist() == [0, 4, 5]
    assert checks.usable_records(split, min_seconds=1.0, need_audio=False).tolist() == [0, 2, 4, 5]
    with pytest.raises(
        index.DatasetError, match=r"none of the 6 .* 5 are shorter than the 1\.15 s .* 1\.20 s.* 1 have no"
    ):
        checks.usable_records(split, min_seconds=1.15, need_audio=True)


def test_right_rates_pass_and_wrong_ones_are_named_with_the_remedy(split):
    checks.check_dataset(split, ClipShape(0.5, 10.0, 5.0, 500), SIZE)
    with pytest.raises(index.DatasetError, match=r"10 frames per second.*12.*--config.data.stored_frame_rate=10"):
        checks.check_dataset(split, ClipShape(0.5, 12.0, 12.0, 500), SIZE)
    with pytest.raises(index.DatasetError, match=r"16x16.*17.*--config.data.crop_size=16"):
        checks.check_dataset(split, ClipShape(0.5, 10.0, 10.0, 500), SIZE + 1)


def test_another_sample_rate_is_welcome_and_told_once(split, tmp_path, caplog):
    folds = [dataclasses.replace(split, split=name, view_of=split.split) for name in ("fold1", "fold2")]
    with caplog.at_level(logging.INFO):
        for fold in folds:
            checks.check_dataset(fold, ClipShape(0.5, 10.0, 5.0, 800), SIZE)
            checks.check_dataset(fold, ClipShape(0.5, 10.0, 5.0, 500), SIZE)
    told = [line for line in caplog.messages if str(tmp_path) in line]
    assert len(told) == 1 and "sound of 500 Hz" in told[0] and "resampled to 800 Hz" in told[0]


@pytest.mark.parametrize(
    ("wanted", "train", "level", "words"),
    [
        (400, False, logging.INFO, []),
        (800, False, logging.WARNING, ["nothing above 250 Hz, of up to 400 Hz"]),
        (400, True, logging.WARNING, ["anew for every view", "--sample_rate=400 ", "config.data.sample_rate=500"]),
        (800, True, logging.WARNING, ["nothing above 250 Hz", "anew for every view"]),
    ],
)
def test_what_resampling_costs_is_a_warning(split, caplog, wanted, train, level, words):
    caplog.set_level(logging.INFO)
    checks.check_dataset(split, ClipShape(0.5, 10.0, 5.0, wanted), SIZE, train=train)
    (told,) = [record for record in caplog.records if "resampled" in record.getMessage()]
    assert told.levelno == level and all(word in told.getMessage() for word in words)
    assert ("nothing above" in told.getMessage()) == (wanted > CLIP["sample_rate"])


def test_the_rate_of_frames_that_no_one_sees_does_not_matter(split, tmp_path):
    checks.check_dataset(split, ClipShape(0.5, 25.0, 25.0, 500), None)
    sounds = [dataclasses.replace(fake_clips.make_clip(0, **CLIP), frames=())]
    other = fake_clips.write_clips(tmp_path, "sounds", sounds, num_shards=1)
    checks.check_dataset(other, ClipShape(0.5, 25.0, 25.0, 16_000), None)


def test_ntsc_by_its_usual_name(tmp_path):
    split = fake_clips.write_dataset(tmp_path, "train", 1, num_shards=1, seconds=0.5, size=SIZE)
    checks.check_dataset(split, ClipShape(0.5, 29.97, 29.97, 21_000), SIZE)
    with pytest.raises(index.DatasetError, match="stored_frame_rate"):
        checks.check_dataset(split, ClipShape(0.5, 30.0, 30.0, 21_000), SIZE)


def test_the_first_record_that_can_be_read_is_taken(split):
    fake_clips.flip_a_byte(split, 0)
    checks.check_dataset(split, ClipShape(0.5, 10.0, 10.0, 500), SIZE)
    for record in (1, 2):
        fake_clips.flip_a_byte(split, record)
    with pytest.raises(index.DatasetError, match=r"(?s)none of the first records .*--verify"):
        checks.check_dataset(split, ClipShape(0.5, 10.0, 10.0, 500), SIZE)


def test_labelled_records(tmp_path):
    clips = [fake_clips.make_clip(number, label=label, **CLIP) for number, label in enumerate([2, -1, 0, 1])]
    split = fake_clips.write_clips(tmp_path, "train", clips)
    everything = np.arange(4)
    assert checks.labelled_records(split, everything, 3).tolist() == [0, 2, 3]
    with pytest.raises(index.DatasetError, match=r"label 2, but .* 2 classes .*num_classes=3"):
        checks.labelled_records(split, everything, 2)
    with pytest.raises(index.DatasetError, match=r"no video of split 'train'.*`label`"):
        checks.labelled_records(split, everything[1:2], 3)


def test_few_labels_are_a_part_of_many(tmp_path):
    clips = [fake_clips.make_clip(number, label=number % 3, **CLIP) for number in range(10)]
    split = fake_clips.write_clips(tmp_path, "train", clips)
    records = np.arange(1, 10)
    one, two, all_of_them = (checks.first_of_each_class(split, records, count, seed=0) for count in (1, 2, 9))
    assert sorted(split.rows["label"][one]) == [0, 1, 2]
    assert sorted(split.rows["label"][two]) == [0, 0, 1, 1, 2, 2]
    assert set(one) < set(two) < set(all_of_them) and all_of_them.tolist() == records.tolist()
    draws = {tuple(checks.first_of_each_class(split, records, 1, seed)) for seed in range(20)}
    assert len(draws) > 5


def test_sounds_without_pictures_are_for_the_ear(tmp_path):
    clip = fake_clips.make_clip(0, **CLIP)
    split = fake_clips.write_clips(tmp_path, "train", [dataclasses.replace(clip, frames=())], num_shards=1)
    checks.check_dataset(split, ClipShape(0.5, 10.0, 10.0, 500), None)
    with pytest.raises(index.DatasetError, match="audio_only"):
        checks.check_dataset(split, ClipShape(0.5, 10.0, 10.0, 500), SIZE)


def test_side_of_the_frames(split, tmp_path):
    fake_clips.flip_a_byte(split, 0)
    assert checks.frame_side(split) == SIZE
    clip = fake_clips.make_clip(0, **CLIP)
    wide = tf.io.encode_jpeg(np.zeros((SIZE, SIZE + 8, 3), np.uint8)).numpy()
    for name, frames in (("wide", [wide] * 10), ("sounds", ())):
        other = fake_clips.write_clips(tmp_path, name, [dataclasses.replace(clip, frames=frames)], num_shards=1)
        with pytest.raises(index.DatasetError, match=rf"(?s)split '{name}'.*no square frames.*--verify"):
            checks.frame_side(other)
