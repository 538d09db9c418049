import pytest

from cmav.media.manifest import Manifest, ManifestError
from cmav.media.videos import Video
from cmav.prep.held_out import hold_out, is_held_out


def manifest(sources):
    return Manifest("/videos", {"train": [Video(source, source) for source in sources]})


SOURCES = [f"some/v{number}.mp4" for number in range(1000)]


def held(sources, share=0.1):
    return {video.source for video in hold_out(manifest(sources), share).splits["validation"]}


def test_about_the_share_is_held_out_and_nothing_lost():
    listed = hold_out(manifest(SOURCES), 0.1)
    train, validation = ({video.source for video in listed.splits[name]} for name in ("train", "validation"))
    assert train | validation == set(SOURCES) and not train & validation
    assert 70 <= len(validation) <= 130  # 100 ± 3 standard deviations of a draw
    assert listed.notes[-1].startswith(f"{len(validation)} of 1,000 videos are held out")


def test_no_video_changes_sides_when_others_come_all_move_or_are_transcoded():
    before = held(SOURCES)
    assert held([f"more/w{number}.avi" for number in range(500)] + SOURCES) & set(SOURCES) == before
    assert held([f"/elsewhere/{source}" for source in SOURCES]) == {f"/elsewhere/{source}" for source in before}
    assert held([source.replace(".mp4", ".mkv") for source in SOURCES]) == {
        source.replace(".mp4", ".mkv") for source in before
    }
    assert before < held(SOURCES, 0.2)


def test_these_videos_are_on_these_sides_on_every_machine():
    assert [number for number in range(40) if is_held_out(f"v{number}.mp4", 0.1)] == [0, 8, 11, 16, 21, 22, 30]


def test_all_parts_of_a_file_are_on_one_side():
    videos = [Video(source, source, start=start) for source in SOURCES for start in (0.0, 10.0)]
    listed = hold_out(Manifest("/videos", {"train": videos}), 0.1)
    assert not {v.source for v in listed.splits["train"]} & {v.source for v in listed.splits["validation"]}


def test_no_side_is_empty_without_a_word():
    with pytest.raises(ManifestError, match="of 1 videos none falls into"):
        hold_out(manifest(["a.mp4"]), 0.1)


def test_videos_that_are_in_splits_are_not_divided():
    with pytest.raises(ManifestError, match="leave out the column `split`"):
        hold_out(Manifest("/videos", {"train": [], "test": []}), 0.1)
