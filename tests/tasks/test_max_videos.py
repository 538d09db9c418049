"""Fewer videos to train on, whatever the task; never fewer to be judged on."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import clip_ids, storage
from cmav.data.files import file_of
from cmav.data.pipeline import make_loader
from cmav.errors import UserError
from cmav.tasks import make_task
from tests import fake_clips, tiny_config

CONFIGS = {
    "avs": tiny_config.get_config,
    "cmac": tiny_config.get_cmac_config,
    "action": tiny_config.get_action_config,
}
CLIPS_OF_A_VIDEO, VIDEOS = 2, 6


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    clips = []
    for number in range(CLIPS_OF_A_VIDEO * VIDEOS):
        video, part = divmod(number, CLIPS_OF_A_VIDEO)
        clip = fake_clips.make_clip(number, label=video % 3, **tiny_config.CLIPS)
        clips.append(dataclasses.replace(clip, clip_id=f"a_video{video}_{1000 * part}"))
    return fake_clips.write_clips(tmp_path_factory.mktemp("clips"), "train", clips)


def records_of(split, task, *, train=True, max_videos=0, seed=0, **settings):
    config = CONFIGS[task]()
    config.seed, config.data.max_videos, config.action.num_classes = seed, max_videos, 3
    config.update_from_flattened_dict(settings)
    loaded = make_loader(split, make_task(config, config.phases[0]), config.data, train=train)
    return set(loaded.records.tolist())


def videos_of(split, records):
    return {file_of(clip_id.decode()) for clip_id in clip_ids.read_clip_ids(split, sorted(records))}


@pytest.mark.parametrize("task", CONFIGS)
def test_so_many_videos_are_trained_on_with_all_their_clips(split, task):
    everything = set(range(CLIPS_OF_A_VIDEO * VIDEOS))
    assert records_of(split, task) == everything == records_of(split, task, max_videos=VIDEOS)
    assert records_of(split, task, max_videos=2, train=False) == everything
    two, four = (records_of(split, task, max_videos=count) for count in (2, 4))
    assert two < four and len(two) == 2 * CLIPS_OF_A_VIDEO and len(four) == 4 * CLIPS_OF_A_VIDEO
    assert len(videos_of(split, two)) == 2 and len(videos_of(split, four)) == 4
    assert len({frozenset(records_of(split, task, max_videos=1, seed=seed)) for seed in range(-1, 20)}) == VIDEOS
    with pytest.raises(UserError, match=r"max_videos=7: split 'train' in .* has 6 videos"):
        records_of(split, task, max_videos=7)


def test_labels_are_drawn_from_these_videos(split):
    few = records_of(split, "action", max_videos=4)
    fewer = records_of(split, "action", max_videos=4, **{"action.videos_per_class": 1})
    assert fewer < few
    labels = split.rows["label"]
    assert sorted(labels[list(fewer)]) == sorted(np.unique(labels[list(few)]))


def test_another_videos_sound_needs_two(split):
    with pytest.raises(UserError, match="records of one video only"):
        records_of(split, "avs", max_videos=1, **{"data.other_share": 0.5})


def test_a_record_whose_id_cannot_be_read_is_of_no_video(tmp_path):
    split = fake_clips.write_dataset(tmp_path, "train", 4, seconds=0.5)
    fake_clips.flip_a_byte(split, 2, at=12)
    assert clip_ids.of_some_videos(split, np.arange(4), 3, seed=0).tolist() == [0, 1, 3]
    with pytest.raises(UserError, match="has 3 videos"):
        clip_ids.of_some_videos(split, np.arange(4), 4, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_phases_that_can_use_other_clips_share_their_videos(split, seed):
    all_records = np.arange(CLIPS_OF_A_VIDEO * VIDEOS)
    drawn = set(clip_ids.of_some_videos(split, all_records, 3, seed).tolist())
    for left_out in all_records:
        some = np.delete(all_records, left_out)
        assert set(clip_ids.of_some_videos(split, some, 3, seed).tolist()) == drawn - {left_out}


def test_what_storage_does_not_tell_is_no_damage(split, monkeypatch):
    asked = []

    def fail_at_first(index, record):
        asked.append(record)
        if asked.count(record) == 1:
            raise tf.errors.UnavailableError(None, None, "503")
        return read(index, record)

    read = clip_ids._read
    monkeypatch.setattr(storage, "DELAYS", (0.0, 0.0))
    monkeypatch.setattr(clip_ids, "_read", fail_at_first)
    assert videos_of(split, range(2 * VIDEOS)) == {f"a_video{number}" for number in range(VIDEOS)}
