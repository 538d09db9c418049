"""Plans stay what they are, and say how they differ from what is asked."""

import dataclasses
import errno
import itertools
import json
import pickle
import shutil
import types
from fractions import Fraction

import pytest

from cmav.data import storage
from cmav.media.clips import ClipOptions
from cmav.media.manifest import Manifest, Video
from cmav.prep import files, plan
from cmav.prep.plan import PlanError

OPTIONS = ClipOptions()
VIDEOS = [Video(f"v{k}.mp4", f"v{k}", num_bytes=10) for k in range(40)]


def resolve(folder, videos=VIDEOS, split="train", options=OPTIONS, num_shards=0, classes=()):
    return plan.resolve(
        str(folder), Manifest("/videos", {split: videos}, classes), split, options, num_shards, allow_overlap=True
    )


def test_every_video_is_in_one_shard(tmp_path):
    resolved = resolve(tmp_path, num_shards=7)
    shards = [resolved.unit(shard, "out", "/videos").videos for shard in range(7)]
    assert sorted(itertools.chain(*shards), key=lambda video: int(video.name[1:])) == VIDEOS
    assert list(shards[2]) == VIDEOS[2::7]
    assert {len(videos) for videos in shards} == {5, 6}


def test_shards_depend_on_the_number_of_videos_alone():
    numbers = [1, 2, 16, 17, 512, 513, 2_000_000]
    assert [plan.auto_shards(n) for n in numbers] == [1, 2, 16, 16, 16, 17, 62_500]


def test_a_plan_is_read_back_as_it_was(tmp_path):
    odd = Video("\udcff x.mp4", "x", 1.25, 3.5, 2, "swim", ("a", "b"), 7)
    options = ClipOptions(Fraction(21, 5), 64, Fraction(25), 16_000, 80)
    resolved = resolve(tmp_path, [odd, *VIDEOS], options=options, num_shards=3, classes=("fly", "run", "swim"))
    assert plan.load(str(tmp_path), "train") == resolved
    first = (tmp_path / "build/train/plan.json").read_bytes()
    assert resolve(tmp_path, [odd, *VIDEOS], options=options, num_shards=3, classes=("fly", "run", "swim")) == resolved
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
    resolve(tmp_path)
    with pytest.raises(PlanError, match=f"(?s){message}.*another --out") as error:
        resolve(tmp_path, **change)
    assert files.build_folder(str(tmp_path), "train") in str(error.value)


def test_a_damaged_plan(tmp_path):
    resolve(tmp_path)
    (tmp_path / "build/train/plan.json").write_text('{"split": ')
    with pytest.raises(PlanError, match="damaged"):
        resolve(tmp_path)


@pytest.mark.parametrize("name", ["all", "a b", "a/b", "", "-", "train[:10]", "a+b", "á"])
def test_split_names_that_tfds_cannot_read(tmp_path, name):
    with pytest.raises(PlanError, match="cannot be called"):
        resolve(tmp_path, split=name)


def test_splits_of_a_folder_keep_clip_ids_apart(tmp_path):
    resolve(tmp_path)
    other = resolve(tmp_path, [VIDEOS[0], Video("w.mp4", "w")], split="validation")
    assert [video.name for video in other.videos()] == ["validation/v0", "w"]
    assert next(resolve(tmp_path).videos()).name == "v0"  # and the first plan still holds


def test_splits_of_a_folder_share_one_list_of_classes(tmp_path):
    def labelled(*labels):
        classes = tuple(sorted(set(labels)))
        return [Video(f"{x}.mp4", x, label=classes.index(x), label_name=x) for x in labels], classes

    videos, classes = labelled("fly", "run", "swim")
    resolve(tmp_path, videos, classes=classes)
    videos, classes = labelled("swim", "fly")
    test = resolve(tmp_path, videos, split="test", classes=classes)
    assert [(video.label_name, video.label) for video in test.videos()] == [("swim", 2), ("fly", 0)]
    videos, classes = labelled("swim", "walk")
    with pytest.raises(PlanError, match=r"not among them: walk.*\n.*one CSV"):
        resolve(tmp_path, videos, split="dev", classes=classes)


def test_shards_are_for_the_videos_that_are_there(tmp_path):
    missing = [Video(f"m{k}.mp4", f"m{k}") for k in range(1000)]
    resolved = resolve(tmp_path, [*missing, *VIDEOS[:3]])
    assert resolved.num_shards == 3 and resolved.num_videos == 1003
    assert resolve(tmp_path / "none", missing).num_shards == 1


def official(name, *splits):
    return Video(f"{name}.mp4", name, splits=splits, num_bytes=1)


def test_an_official_split_is_not_called_like_a_physical_one(tmp_path):
    with pytest.raises(PlanError, match="'train' is an official split"):
        resolve(tmp_path, [official("a", "train")])
    resolve(tmp_path, [official("a", "test1")], split="videos")
    with pytest.raises(PlanError, match=r"cannot be called 'test1' here: .* of the split 'videos'"):
        resolve(tmp_path, [official("b")], split="test1")
    resolve(tmp_path, [official("b")], split="more")
    with pytest.raises(PlanError, match="'videos' is an official split"):
        resolve(tmp_path, [official("c", "videos")], split="other")


def test_an_official_split_lies_within_one_physical_one(tmp_path):
    videos = {"train": [official("a", "fold1")], "test": [official("b", "fold1", "fold2")]}
    with pytest.raises(PlanError, match=r"'fold1' has videos both in the split 'train' and in 'test'"):
        plan.resolve(str(tmp_path), Manifest("/videos", videos), "train", OPTIONS, 0)
    resolve(tmp_path, videos["train"])
    with pytest.raises(PlanError, match="'fold1' has videos both"):
        resolve(tmp_path, videos["test"], split="test")


def test_splits_of_a_folder_share_their_form(tmp_path):
    resolve(tmp_path)
    with pytest.raises(PlanError, match="give --size 256"):
        resolve(tmp_path, split="test", options=ClipOptions(size=128))
    resolve(tmp_path, split="test", options=ClipOptions(clip_seconds=Fraction(0)))


def files_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "build/train").iterdir()}


def test_it_grows_by_what_is_new(tmp_path):
    before, old_files = resolve(tmp_path), files_of(tmp_path)
    new = [Video(f"new{k}.mp4", f"new{k}", num_bytes=10) for k in range(3)]
    listed = [*new[:1], *VIDEOS[::-1], *new[1:]]
    grown = resolve(tmp_path, listed)
    assert (before.num_shards, grown.num_shards, grown.num_videos) == (16, 19, 43)
    assert [list(grown.shard_videos(shard)) for shard in range(16, 19)] == [[video] for video in new]
    assert list(grown.videos())[:40] == list(before.videos())
    del old_files["plan.json"]
    assert old_files.items() <= files_of(tmp_path).items()
    assert resolve(tmp_path, listed[::-1]) == grown  # the order of the list does not matter
    assert resolve(tmp_path, listed, num_shards=16) == resolve(tmp_path, listed, num_shards=19) == grown


def test_new_videos_do_not_take_old_names(tmp_path):
    parts = [Video("a.mp4", "a", 0, 10, num_bytes=1), Video("a.mp4", "a~2", 5, 15, num_bytes=1)]
    resolve(tmp_path, parts)
    # As a whole list they would be called otherwise: the new part comes before the old ones in the file.
    more = [Video("a.mp4", "a", 0, 7, num_bytes=1), Video("b/a.mp4", "b/a.mp4", num_bytes=1)]
    grown = resolve(tmp_path, [*more, *parts])
    assert [video.name for video in grown.videos()] == ["a", "a~2", "train/a", "b/a.mp4"]
    assert [video.end for video in grown.videos()] == [10, 15, 7, None]
    again = resolve(tmp_path, [*more, *parts, parts[0]])  # the same row twice is two videos
    assert [video.name for video in again.videos()][4:] == ["train/a~2"]


def test_classes_are_not_renumbered_by_growing(tmp_path):
    def labelled(*labels):
        classes = tuple(sorted(set(labels)))
        return [Video(f"{x}.mp4", x, label=classes.index(x), label_name=x, num_bytes=1) for x in labels], classes

    videos, classes = labelled("run", "swim")
    resolve(tmp_path, videos, classes=classes)
    more, classes = labelled("fly", "run", "swim")
    with pytest.raises(PlanError, match=r"(?s)not among them: fly.*numbers would change"):
        resolve(tmp_path, more, classes=classes)
    # A class that only another split of the CSV has moves the numbers there, and not here.
    new = Video("new.mp4", "new", label=2, label_name="swim", num_bytes=1)
    grown = resolve(tmp_path, [*more[1:], new], classes=classes)
    assert grown.classes == ("run", "swim")
    assert [(video.label_name, video.label) for video in grown.videos()] == [("run", 0), ("swim", 1), ("swim", 1)]


def test_what_is_gone_for_good_may_be_skipped(tmp_path):
    before = resolve(tmp_path)
    manifest = Manifest("/videos", {"train": VIDEOS[5:]})
    assert plan.resolve(str(tmp_path), manifest, "train", OPTIONS, 0, skip_gone=True) == before


def test_sizes_are_looked_up_once_and_missing_files_stay_missing(tmp_path, monkeypatch):
    (tmp_path / "there.mp4").write_bytes(b"x" * 7)
    videos = {"train": [Video("there.mp4", "there"), Video("none.mp4", "none")]}
    resolved = plan.resolve(str(tmp_path), Manifest(str(tmp_path), videos), "train", OPTIONS, 0)
    assert [video.num_bytes for video in resolved.videos()] == [7, -1]
    monkeypatch.setattr("cmav.prep.lookup.size", None)
    (tmp_path / "none.mp4").write_bytes(b"x")
    assert plan.resolve(str(tmp_path), Manifest(str(tmp_path), videos), "train", OPTIONS, 0) == resolved


def test_storage_that_does_not_answer_is_not_a_missing_file(tmp_path, monkeypatch):
    def stat(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("cmav.data.storage.DELAYS", (0,))
    monkeypatch.setattr("cmav.prep.lookup.os", types.SimpleNamespace(stat=stat))
    with pytest.raises(storage.StorageError, match=r"/videos/v0\.mp4: storage does not answer"):
        resolve(tmp_path, [Video("v0.mp4", "v0")])
    assert not (tmp_path / "build/train/plan.json").exists()


def test_a_unit_reads_its_own_videos_and_no_others(tmp_path):
    resolved = resolve(tmp_path, num_shards=7)
    for shard in {*range(7)} - {3}:
        (tmp_path / f"build/train/videos-{shard:05d}.json").unlink()
    unit = pickle.loads(pickle.dumps(plan.load(str(tmp_path), "train").unit(3, str(tmp_path), "/videos")))
    assert list(unit.videos) == VIDEOS[3::7] and len(unit.videos) == 6
    assert len(pickle.dumps(resolved.unit(3, str(tmp_path), "/videos"))) < 2000
    with pytest.raises(PlanError, match=r"videos-00002.json is missing or damaged"):
        list(resolved.unit(2, str(tmp_path), "/videos").videos)


def test_two_plans_at_once_are_noticed(tmp_path):
    resolved = resolve(tmp_path, num_shards=2)
    resolve(tmp_path / "other", VIDEOS[1:], num_shards=2)
    shutil.copy(tmp_path / "other/build/train/videos-00001.json", tmp_path / "build/train")
    with pytest.raises(PlanError, match="two runs planned the split at once"):
        list(resolved.shard_videos(1))


def old_form(folder, split, videos, classes=(), num_shards=7):
    """plan.json as it was before plans had a version."""
    options = {"clip_seconds": "10", "size": 256, "frame_rate": "30000/1001", "sample_rate": 21_000}
    options |= {"jpeg_quality": 90, "sound_only": False, "shards": num_shards}
    head = {"split": split, "options": options, "classes": classes}
    head["videos"] = [dataclasses.asdict(video) for video in videos]
    (folder / "build" / split).mkdir(parents=True)
    (folder / "build" / split / "plan.json").write_text(json.dumps(head))


def test_plans_without_a_version_go_on(tmp_path):
    old_form(tmp_path, "train", VIDEOS)
    resolved = resolve(tmp_path)
    assert [list(resolved.shard_videos(shard)) for shard in range(7)] == [VIDEOS[k::7] for k in range(7)]
    assert resolved == plan.load(str(tmp_path), "train") and resolved.options == OPTIONS
    assert resolve(tmp_path, [*VIDEOS, Video("new.mp4", "new", num_bytes=1)]).num_shards == 8


def test_beside_plans_without_a_version_others_are_made(tmp_path):
    run = Video("v0.mp4", "v0", label=1, label_name="run", splits=("test1",), num_bytes=3)
    old_form(tmp_path, "train", [run], classes=("fly", "run"))
    videos = [Video("v0.mp4", "v0", label=0, label_name="run", num_bytes=4)]
    other = resolve(tmp_path, videos, split="validation", classes=("run",))
    assert next(other.videos()) == dataclasses.replace(videos[0], name="validation/v0", label=1)
    with pytest.raises(PlanError, match="cannot be called 'test1'"):
        resolve(tmp_path, VIDEOS, split="test1")


def test_a_plan_of_a_newer_form_is_left_alone(tmp_path):
    resolve(tmp_path)
    path = tmp_path / "build/train/plan.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    with pytest.raises(PlanError, match="a newer cmav"):
        resolve(tmp_path)
