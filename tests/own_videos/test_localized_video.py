"""One video's pictures, with maps that are given."""

import av
import numpy as np
import pytest

from cmav.own_videos import localized_video
from cmav.own_videos.known_boxes import MiddleBoxes, MovingBoxes
from cmav.own_videos.sound_maps import SoundMaps
from tests.fake_worker import FakeWorker
from tests.media.sample_videos import steady_times, write_video

RATE, SECONDS, SIZE = 10, 6.0, 32
BOX = MiddleBoxes(np.array([[0.25, 0.25, 0.75, 0.75]]))
MADE_WITH = {"method": "cam", "step": 3, "run": "runs/one"}


class GivenMaps:
    """In place of a `Localizer`: a network's part is not what is tested here."""

    def __init__(self, found):
        self._found, self.worker = found, FakeWorker()

    def find(self, path, tell):
        tell(self._found.times[-1])
        return self._found


def sound_maps(lit, seconds=SECONDS):
    """Maps each 0.5 s that are 0 but at the given instants (seconds -> value)."""
    times = np.linspace(0, seconds, round(2 * seconds) + 1)
    maps = np.zeros((len(times), 2, 2), np.float32)
    for instant, value in lit.items():
        maps[times == instant, 0, 1] = value
    place = np.array([0.25, 0.75])
    return SoundMaps(times, maps, None, np.full(len(times), -20.0), place, place, True, "")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Localizes a grey video; returns the overlay's times and frames, the sheet's samples and its title."""
    sheets = []
    monkeypatch.setattr(
        localized_video, "save_sheet", lambda path, samples, title, num_heads: sheets.append((samples, title))
    )

    def write_one(found, boxes, seconds=None):
        times = steady_times(RATE, seconds or float(found.times[-1]))
        path = write_video(
            str(tmp_path / "v.mkv"), times, [np.full((SIZE, SIZE, 3), 99, np.uint8)] * len(times), rate=RATE
        )
        paths = tuple(str(tmp_path / f"o.{kind}") for kind in ("mp4", "png", "npz"))
        assert localized_video.write(path, GivenMaps(found), paths, MADE_WITH, boxes) == ""
        with av.open(paths[0]) as container:
            frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        return *zip(*frames, strict=True), *sheets.pop()

    return write_one


def has_box(picture):
    return picture[8, 9:23].mean() > 200  # its upper edge


def test_boxes_are_drawn_where_they_are_true(write):
    """In the video's middle alone: in the overlay around it, in the sheet at this very instant."""
    times, pictures, samples, title = write(sound_maps({0.5: 9.0, 2.5: 9.0, 3.5: 9.0, 5.0: 9.0}), BOX)
    boxed = [has_box(picture) for picture in pictures]
    np.testing.assert_array_equal(boxed, [2.49 < time < 3.51 for time in times])
    seconds = [sample.seconds for sample in samples]
    assert seconds == sorted(seconds) and [s for s in seconds if 2.5 <= s <= 3.5] == [3.0]
    assert [has_box(sample.rows["with the map"]) for sample in samples] == [s == 3.0 for s in seconds]
    assert not any(has_box(sample.rows["as it is"]) for sample in samples)
    assert title == "v.mkv: cam, step 3 of runs/one; the truth is known at 3.0 s"


def test_the_middle_is_the_videos(write):
    """Not that of the maps, which may reach a little beyond its end."""
    _, _, samples, title = write(sound_maps({1.0: 9.0}), BOX, seconds=5.6)
    assert [round(sample.seconds, 2) for sample in samples if has_box(sample.rows["with the map"])] == [2.8]
    assert title.endswith("at 2.8 s")


def test_the_sheet_has_the_liveliest_instants(write):
    """Of each part of the video one; not its ends, where the maps are those of another instant."""
    _, pictures, samples, title = write(sound_maps({0.0: 9.0, 1.0: 4.0, 2.0: 4.0, 5.0: 4.0, 6.0: 9.0}), ())
    seconds = [sample.seconds for sample in samples]
    assert len(seconds) == 6 and {1.0, 2.0, 5.0} <= set(seconds) and not {0.0, 6.0} & set(seconds)
    assert not any(map(has_box, pictures)) and title == "v.mkv: cam, step 3 of runs/one"


def test_the_sheet_says_when_nothing_can_be_heard(write):
    found = sound_maps({1.0: 9.0, 4.0: 9.0})
    found.loudness[found.times > 3] = -55
    _, _, samples, _ = write(found, None)
    assert [sample.is_silent for sample in samples] == [sample.seconds > 3 for sample in samples]
    assert any(sample.is_silent for sample in samples) and not all(sample.is_silent for sample in samples)


@pytest.mark.parametrize("boxes", [None, BOX])
def test_the_shortest_video_has_a_sheet(write, boxes):
    _, _, samples, _ = write(sound_maps({0.0: 1.0}, seconds=0.5), boxes)
    assert len(samples) == 1


def test_boxes_that_move_are_drawn_all_the_time(write):
    """Down and then away: their frames come at another rate than the video's."""
    track = np.array([[[0.25, 0.25, 0.75, 0.75], [0.25, 0.5, 0.75, 1.0]]])
    times, pictures, samples, title = write(sound_maps({0.5: 9.0, 5.0: 9.0}), MovingBoxes(track, 0.5))
    for time, picture in zip(times, pictures, strict=True):
        assert has_box(picture) == (time < 2)
        assert (picture[16, 9:23].mean() > 200) == (time >= 2)
    assert "truth" not in title and len(samples) == 6
