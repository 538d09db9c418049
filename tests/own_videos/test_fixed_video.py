"""Copies of many containers: the offset that was measured is gone, and nothing but the times has changed."""

import av
import pytest

from cmav.media import decoding
from cmav.media.streams import RejectedError
from cmav.offsets.course import Segment
from cmav.own_videos import fixed_video
from tests.fake_worker import FakeWorker
from tests.offsets import fake_sync
from tests.own_videos.test_offsets import find, write


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr(decoding, "worker", FakeWorker)


def fixed(source, folder, late):
    target = fixed_video.target_of(str(source), str(folder), set())
    return target, fixed_video.fix(FakeWorker(), str(source), target, Segment(0.0, 4.0, late, late))


@pytest.mark.parametrize(
    ("name", "codec", "made"),
    [
        ("v.mp4", "aac", "v.mp4"),
        ("v.mp4", "mp3", "v.mp4"),
        ("v.mov", "pcm_s16le", "v.mov"),
        ("v.mkv", "libopus", "v.mkv"),
        ("v.ts", "aac", "v.ts"),
        ("v.avi", "mp3", "v.mkv"),
    ],
)
@pytest.mark.parametrize("late", [0.3, -0.4])
def test_containers(tmp_path, name, codec, made, late):
    write(tmp_path / name, late, codec=codec)
    (tmp_path / "out").mkdir()
    (before,) = find(fake_sync.make_network(), [tmp_path / name])
    target, said = fixed(tmp_path / name, tmp_path / "out", before.estimate.offset_ms / 1000)
    assert target == str(tmp_path / "out" / made) and said == "its streams were copied, and their times moved"
    (after,) = find(fake_sync.make_network(), [tmp_path / "out" / made])
    assert abs(after.estimate.offset_ms) < 10 < 200 < abs(before.estimate.offset_ms)


def test_all_that_can_be_copied_is(tmp_path):
    """Pictures with B-frames that begin before zero, two sounds, a subtitle, and what the file says of itself."""
    source = tmp_path / "v.mkv"
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:00:01,500\nHello\n")
    with (
        av.open(str(write(tmp_path / "plain.mkv", 0.3))) as given,
        av.open(str(tmp_path / "words.srt")) as said,
        av.open(str(source), "w") as made,
    ):
        made.metadata["title"] = "Two voices"
        sounds = [made.add_stream_from_template(given.streams.audio[0]) for _ in range(2)]
        pictures = made.add_stream("libx264", rate=25, options={"bf": "3"})
        pictures.width = pictures.height = 16
        words = made.add_stream_from_template(said.streams[0])
        for frame in given.decode(video=0):
            made.mux(pictures.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), "rgb24")))
        made.mux(pictures.encode(None))
        given.seek(0)
        for stream, packet in [
            *((stream, packet) for packet in given.demux(audio=0) for stream in sounds),
            *((words, packet) for packet in said.demux()),
        ]:
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    target = str(tmp_path / "made.mkv")
    fixed_video.fix(FakeWorker(), str(source), target, Segment(0.0, 4.0, 0.3, 0.3))
    (kinds, before), (copied_kinds, after) = (starts_of(path) for path in (source, target))
    assert kinds == copied_kinds == ["audio", "audio", "video", "subtitle"]
    moved = {kind: after[kind] - before[kind] for kind in after}
    assert moved == pytest.approx({"audio": 0.0, "video": 0.3, "subtitle": 0.3}, abs=0.002)
    assert payloads(source) == payloads(target)
    with av.open(target) as made:
        assert made.metadata["title"] == "Two voices"


def starts_of(path):
    """Kinds of a file's streams, and when the first packet of each kind is shown, in seconds."""
    with av.open(str(path)) as container:
        starts = {}
        for packet in container.demux():
            if packet.size:
                at = float(packet.pts * packet.time_base)
                starts[packet.stream.type] = min(at, starts.get(packet.stream.type, at))
        return [stream.type for stream in container.streams], starts


def payloads(path):
    """The bytes of the packets of each kind of stream, in order."""
    found = {"video": [], "audio": [], "subtitle": []}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                found[packet.stream.type].append(bytes(packet))
    return found


def test_what_cannot_be_copied(tmp_path):
    (tmp_path / "broken.mp4").write_text("no video")
    (tmp_path / "out").mkdir()
    with pytest.raises(RejectedError, match="could not be copied"):
        fixed(tmp_path / "broken.mp4", tmp_path / "out", 0.3)
    assert list((tmp_path / "out").iterdir()) == []
