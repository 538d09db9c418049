"""Plans stay what they are, and say how they differ from what is asked."""

import dataclasses
import itertools
from fractions import Fraction

import pytest

from data_prep import files, plan
from data_prep.clips import ClipOptions
from data_prep.manifest import Manifest, Video
from data_prep.plan import PlanError

OPTIONS = ClipOptions()
VIDEOS = [Video(f"v{k}.mp4", f"v{k}", num_bytes=10) for k in range(40)]


def settle(folder, videos=VIDEOS, split="train", options=OPTIONS, num_shards=0, classes=()):
    return plan.settle(str(folder), Manifest("/videos", {split: videos}, classes), split, options, num_shards)


def test_every_video_is_in_one_shard(tmp_path):
    settled = settle(tmp_path, num_shards=7)
    shards = [settled.unit(shard, "out", "/videos").videos for shard in range(7)]
    assert sorted(itertools.chain(*shards), key=lambda video: int(video.name[1:])) == VIDEOS
    assert list(shards[2]) == VIDEOS[2::7]
    assert {len(videos) for videos in shards} == {5, 6}


def test_shards_depend_on_the_number_of_videos_alone():
    numbers = [1, 2, 16, 17, 512, 513, 2_000_000]
    assert [plan.auto_shards(n) for n in numbers] == [1, 2, 16, 16, 16, 17, 62_500]


def test_a_plan_is_read_back_as_it_was(tmp_path):
    odd = Video("\udcff x.mp4", "x", 1.25, 3.5, 2, "swim", ("a", "b"), 7)
    options = ClipOptions(Fraction(21, 5), 64, Fraction(25), 16_000, 80)
    settled = settle(tmp_path, [odd, *VIDEOS], options=options, num_shards=3, classes=("fly", "run", "swim"))
    assert plan.load(str(tmp_path), "train") == settled
    first = (tmp_path / "build/train/plan.json").read_bytes()
    assert settle(tmp_path, [odd, *VIDEOS], options=options, num_shards=3, classes=("fly", "run", "swim")) == settled
    assert (tmp_path / "build/train/plan.json").read_bytes() == first


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(options=ClipOptions(size=128)), "--size was 256, is now 128"),
        (dict(options=ClipOptions(clip_seconds=Fraction(5))), "--clip_seconds was 10, is now 5"),
        (dict(options=ClipOptions(frame_rate=Fraction(25))), "--frame_rate was 30000/1001, is now 25"),
        (dict(num_shards=5), "--shards was 16, is now 5"),
        (dict(videos=VIDEOS[1:]), r"1 videos .* are no longer listed \(v0.mp4 .*--skip_gone"),
        (
            dict(videos=[dataclasses.replace(VIDEOS[0], label_name="swim"), *VIDEOS[1:]]),
            r"1 videos .* labelled otherwise .*\(v0.mp4: now 'swim'",
        ),
    ],
)
def test_what_differs_is_named(tmp_path, change, message):
    settle(tmp_path)
    with pytest.raises(PlanError, match=f"(?s){message}.*another --out") as error:
        settle(tmp_path, **change)
    assert files.build_folder(str(tmp_path), "train") in str(error.value)


def test_a_damaged_plan(tmp_path):
    settle(tmp_path)
    (tmp_path / "build/train/plan.json").write_text('{"split": ')
    with pytest.raises(PlanError, match="damaged"):
        settle(tmp_path)


@pytest.mark.parametrize("name", ["all", "a b", "a/b", "", "-", "train[:10]", "a+b", "á"])
def test_split_names_that_tfds_cannot_read(tmp_path, name):
    with pytest.raises(PlanError, match="cannot be called"):
        settle(tmp_path, split=name)


def test_splits_of_a_folder_keep_clip_ids_apart(tmp_path):
    settle(tmp_path)
    other = settle(tmp_path, [VIDEOS[0], Video("w.mp4", "w")], split="validation")
    assert [video.name for video in other.videos()] == ["validation/v0", "w"]
    assert next(settle(tmp_path).videos()).name == "v0"  # and the first plan still holds


def test_splits_of_a_folder_share_one_list_of_classes(tmp_path):
    def labelled(*labels):
        classes = tuple(sorted(set(labels)))
        return [Video(f"{x}.mp4", x, label=classes.index(x), label_name=x) for x in labels], classes

    videos, classes = labelled("fly", "run", "swim")
    settle(tmp_path, videos, classes=classes)
    videos, classes = labelled("swim", "fly")
    test = settle(tmp_path, videos, split="test", classes=classes)
    assert [(video.label_name, video.label) for video in test.videos()] == [("swim", 2), ("fly", 0)]
    videos, classes = labelled("swim", "walk")
    with pytest.raises(PlanError, match=r"not among them: walk.*\n.*one CSV"):
        settle(tmp_path, videos, split="dev", classes=classes)


def test_shards_are_for_the_videos_that_are_there(tmp_path):
    missing = [Video(f"m{k}.mp4", f"m{k}") for k in range(1000)]
    settled = settle(tmp_path, [*missing, *VIDEOS[:3]])
    assert settled.num_shards == 3 and settled.num_videos == 1003
    assert settle(tmp_path / "none", missing).num_shards == 1


def official(name, *splits):
    return Video(f"{name}.mp4", name, splits=splits, num_bytes=1)


def test_an_official_split_is_not_called_like_a_physical_one(tmp_path):
    with pytest.raises(PlanError, match="'train' is an official split"):
        settle(tmp_path, [official("a", "train")])
    settle(tmp_path, [official("a", "test1")], split="videos")
    with pytest.raises(PlanError, match=r"cannot be called 'test1' here: .* of the split 'videos'"):
        settle(tmp_path, [official("b")], split="test1")
    settle(tmp_path, [official("b")], split="more")
    with pytest.raises(PlanError, match="'videos' is an official split"):
        settle(tmp_path, [official("c", "videos")], split="other")


def test_an_official_split_lies_within_one_physical_one(tmp_path):
    videos = {"train": [official("a", "fold1")], "test": [official("b", "fold1", "fold2")]}
    with pytest.raises(PlanError, match=r"'fold1' has videos both in the split 'train' and in 'test'"):
        plan.settle(str(tmp_path), Manifest("/videos", videos), "train", OPTIONS, 0)
    settle(tmp_path, videos["train"])
    with pytest.raises(PlanError, match="'fold1' has videos both"):
        settle(tmp_path, videos["test"], split="test")


def test_splits_of_a_folder_share_their_form(tmp_path):
    settle(tmp_path)
    with pytest.raises(PlanError, match="give --size 256"):
        settle(tmp_path, split="test", options=ClipOptions(size=128))
    settle(tmp_path, split="test", options=ClipOptions(clip_seconds=Fraction(0)))
