"""The synthetic world, seen and heard through its MP4 files: what the truth files say must be in them."""

import collections
import csv
import json
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cmav.world.world import CATALOGUE, World
from tests.world.sample_worlds import make

FRAME_RATE = 30000 / 1001


@pytest.fixture(scope="module")
def simple_world(tmp_path_factory) -> Path:
    """Two videos of each of the eight classes, with one source each."""
    return make(tmp_path_factory.mktemp("simple"), "--num_videos", "16", "--seed", "7", "--train_share", "0.75")


@pytest.fixture(scope="module")
def busy_world(tmp_path_factory) -> Path:
    """One source, one distractor, and sometimes sound from off-screen."""
    options = ("--num_videos", "10", "--seed", "3", "--distractors", "1", "--offscreen_share", "0.6")
    return make(tmp_path_factory.mktemp("busy"), *options)


def entries(folder: Path) -> list[dict]:
    return json.loads((folder / "events.json").read_text())


def video_path(folder: Path, entry: dict) -> Path:
    return folder / "videos" / entry["class"] / f"{entry['file']}.mp4"


def decode_frames(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns times [frames] and pictures int [frames, height, width, 3]."""
    with av.open(str(path)) as container:
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return np.array([time for time, _ in frames]), np.stack([picture for _, picture in frames]).astype(int)


def decode_audio(path: Path) -> tuple[float, np.ndarray, int]:
    """Returns the time of the first sample, the samples [samples, 2], and the sample rate."""
    with av.open(str(path)) as container:
        blocks = [(float(block.time), block.to_ndarray()) for block in container.decode(audio=0)]
        return (
            blocks[0][0],
            np.concatenate([samples for _, samples in blocks], axis=1).T,
            container.streams.audio[0].rate,
        )


def hear_onsets(path: Path) -> np.ndarray:
    """Returns the times of sudden rises of the loudness, in seconds, found without the truth."""
    start, samples, rate = decode_audio(path)
    hop = rate // 400
    loudness = np.abs(samples[: len(samples) // hop * hop]).reshape(-1, hop * 2).max(axis=1)
    onsets = []
    for k in range(len(loudness)):
        before = loudness[max(0, k - 16) : max(k, 1)].max()
        fresh = not onsets or k - onsets[-1] > 40
        if fresh and loudness[k : k + 4].max() > 2.5 * before and loudness[k] > 0.15 * loudness.max():
            onsets.append(k)
    return start + np.array(onsets) * hop / rate


def sounding_seconds(entry: dict) -> list[float]:
    return sorted(second for actor in entry["actors"] if actor["sounding"] for second in actor["event_seconds"])


def test_files_are_synchronous_h264_and_aac(simple_world):
    entry = entries(simple_world)[0]
    path = video_path(simple_world, entry)
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt, audio.codec_context.name) == ("h264", "yuv420p", "aac")
        assert video.average_rate == Fraction(30000, 1001)
        assert (audio.rate, audio.channels) == (44_100, 2)
        assert "creation_time" not in container.metadata
    times, pictures = decode_frames(path)
    np.testing.assert_allclose(times, np.arange(120) / FRAME_RATE, atol=1e-6)
    assert pictures.shape[1:] == (96, 96, 3)
    start, samples, rate = decode_audio(path)
    assert start == 0
    assert len(samples) / rate == pytest.approx(120 / FRAME_RATE, abs=0.05)
    assert np.abs(samples).max() < 1
    assert not np.array_equal(samples[:, 0], samples[:, 1])
    quietest = np.abs(samples[: 4 * rate]).reshape(-1, rate // 50, 2).mean(axis=(1, 2)).min()
    assert 1e-4 < quietest < 1e-2  # a room, not a digital zero


def test_sound_starts_where_the_truth_says(simple_world):
    worlds = entries(simple_world)
    assert {actor["timbre"] for entry in worlds for actor in entry["actors"]} == {"Bell", "Drum", "Whistle", "Buzz"}
    for entry in worlds:
        heard, truth = hear_onsets(video_path(simple_world, entry)), sounding_seconds(entry)
        assert len(heard) == len(truth), (entry["file"], heard, truth)
        np.testing.assert_allclose(heard, truth, atol=0.015, err_msg=entry["file"])


def test_events_are_seen_in_their_frame_even_in_small_pictures(simple_world):
    seen_motions = set()
    for entry in entries(simple_world):
        actor = entry["actors"][0]
        seen_motions.add(actor["motion"])
        _, pictures = decode_frames(video_path(simple_world, entry))
        small = pictures.reshape(len(pictures), 32, 3, 32, 3, 3).mean(axis=(2, 4))
        change = np.concatenate([[0], np.abs(np.diff(small, axis=0)).max(axis=3).sum(axis=(1, 2))])
        for second in actor["event_seconds"]:
            frame = round(second * FRAME_RATE)
            around = change[frame - 3 : frame + 4]
            first = frame - 3 + int(np.argmax(around > (around[:3].max() + around.max()) / 2))
            assert abs(first - frame) <= 1, (entry["file"], second, around)
            assert around.max() > 1.3 * around[:3].max(), (entry["file"], second, around)
    assert seen_motions == {"Bounce", "Hop", "Pulse", "Kick", "Flash", "Shake"}


def test_vggss_boxes_are_those_of_the_middle_frame(simple_world):
    boxes = {entry["file"]: entry for entry in json.loads((simple_world / "vggss.json").read_text())}
    assert len(boxes) == 16
    for entry in entries(simple_world):
        truth = boxes[entry["file"]]
        assert truth["class"] == entry["class"]
        ((x0, y0, x1, y1),) = truth["bbox"]
        _, pictures = decode_frames(video_path(simple_world, entry))
        # The background is smooth and dark, so that an edge is the object's.
        middle = pictures[60]
        strong = np.abs(middle - np.median(middle, axis=(0, 1))).max(axis=2) > 60
        rows, columns = np.nonzero(strong)
        drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 96
        np.testing.assert_allclose([x0, y0, x1, y1], drawn, atol=0.04, err_msg=entry["file"])
        tracks = np.load(simple_world / "boxes" / f"{entry['file']}.npy")
        assert (tracks.shape, tracks.dtype) == ((1, 120, 4), np.float32)
        np.testing.assert_allclose(tracks[0, 60], [x0, y0, x1, y1], atol=1e-4)


def test_distractors_are_seen_and_not_heard(busy_world):
    unheard = 0
    for entry in entries(busy_world):
        silent = [actor for actor in entry["actors"] if not actor["sounding"]]
        assert silent and all(actor["timbre"] is None and actor["onscreen"] for actor in silent)
        tracks = np.load(busy_world / "boxes" / f"{entry['file']}.npy")
        assert len(tracks) == sum(actor["onscreen"] for actor in entry["actors"])
        assert all(np.ptp(tracks[actor["box_row"]], axis=0).max() > 0.05 for actor in silent)
        if sum(actor["sounding"] for actor in entry["actors"]) > 1:
            continue  # two sounds can hide each other's onsets
        heard, truth = hear_onsets(video_path(busy_world, entry)), sounding_seconds(entry)
        assert len(heard) == len(truth), (entry["file"], heard, truth)
        np.testing.assert_allclose(heard, truth, atol=0.015)
        unheard += sum(np.abs(heard - s).min() > 0.1 for actor in silent for s in actor["event_seconds"])
    assert unheard >= 10


def test_what_sounds_is_heard_between_its_frequencies(simple_world):
    shares = []
    for entry in entries(simple_world):
        low, high = entry["actors"][0]["hertz"]
        _, samples, rate = decode_audio(video_path(simple_world, entry))
        power = (np.abs(np.fft.rfft(samples, axis=0)) ** 2).sum(axis=1)
        hertz = np.fft.rfftfreq(len(samples), 1 / rate)
        shares.append(power[(hertz >= low) & (hertz <= high)].sum() / power.sum())
    assert np.mean(shares) > 0.7  # A single object's pitch can be at the end of its timbre's.


def test_offscreen_sound_has_no_box(busy_world):
    boxes = {entry["file"]: entry["bbox"] for entry in json.loads((busy_world / "vggss.json").read_text())}
    kinds = collections.Counter()
    for entry in entries(busy_world):
        on, off = ([a for a in entry["actors"] if a["sounding"] and a["onscreen"] == where] for where in (True, False))
        assert on or off
        assert len(boxes[entry["file"]]) == len(on)
        assert all(actor["motion"] is None and actor["box_row"] is None for actor in off)
        if not on:  # the picture shows the motion of the class, and the sound is its timbre
            (sound,) = off
            assert entry["actors"][0]["motion"] + sound["timbre"] == entry["class"]
            assert entry["actors"][0]["event_seconds"] != sound["event_seconds"]
        kinds[bool(on), bool(off)] += 1
    assert set(kinds) == {(True, False), (True, True), (False, True)}


def test_ucf101_lists(simple_world):
    classes = dict(line.split(" ") for line in (simple_world / "classInd.txt").read_text().splitlines())
    assert list(classes) == [str(k) for k in range(1, 9)]
    assert list(classes.values()) == sorted(action.name for action in CATALOGUE[:8])
    videos = {str(path.relative_to(simple_world / "videos")) for path in simple_world.glob("videos/*/*.mp4")}
    assert len(videos) == 16
    test_groups = []
    for split in ("01", "02", "03"):
        train = (simple_world / f"trainlist{split}.txt").read_text().splitlines()
        test = (simple_world / f"testlist{split}.txt").read_text().splitlines()
        for line in train:
            name, label = re.fullmatch(r"((\w+)/v_\2_g\d\d_c\d\d\.mp4) (\d+)", line).group(1, 3)
            assert classes[label] == name.split("/")[0]
        groups = [
            {re.fullmatch(r"\w+/v_(\w+_g\d\d)_c\d\d\.mp4( \d+)?", line)[1] for line in half} for half in (train, test)
        ]
        assert not groups[0] & groups[1]
        test_groups.append(groups[1])
        assert sorted([line.split(" ")[0] for line in train] + test) == sorted(videos)
    assert not (test_groups[0] & test_groups[1] or test_groups[1] & test_groups[2] or test_groups[0] & test_groups[2])


def test_every_class_is_in_every_test_list_from_three_videos_on(tmp_path):
    from cmav.world import truth

    world = World(duration=2, width=32, height=32)
    truth.write_truth(tmp_path, world, num_videos=8 * 30, train_share=0.8)
    tested = []
    for split in ("01", "02", "03"):
        names = (tmp_path / f"testlist{split}.txt").read_text().splitlines()
        assert len({name.split("/")[0] for name in names}) == 8
        tested += names
    assert len(set(tested)) == len(tested)
    names = [row["path"] for row in csv.DictReader((tmp_path / "manifest.csv").open())]
    assert len(set(names)) == 8 * 30  # more than the 25 groups: second clips


def test_manifest(simple_world):
    rows = list(csv.DictReader((simple_world / "manifest.csv").open()))
    assert list(rows[0]) == ["path", "label", "split"]
    assert all((simple_world / row["path"]).is_file() and row["path"].split("/")[1] == row["label"] for row in rows)
    assert collections.Counter(row["split"] for row in rows) == {"train": 12, "validation": 4}
