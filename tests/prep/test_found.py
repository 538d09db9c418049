"""Listed files, found wherever and in whatever form they are."""

import pytest

from cmav.media.manifest import ManifestError, Video
from cmav.prep import found
from tests.prep.sample_lists import touch


def find(folder, *listed):
    return found.find(str(folder), "videos", [Video(name, "", splits=("test1",)) for name in listed], ("run", "swim"))


def sources(listed):
    return [(video.source, video.name) for video in listed.splits["videos"]]


def test_by_path_by_name_by_stem_or_not(tmp_path):
    touch(tmp_path, "run/a.avi", "deep/er/b.avi", "mp4/c.mp4", "mp4/c.txt", "notes/d.txt")
    listed = find(tmp_path, "run/a.avi", "swim/b.avi", "swim/c.avi", "swim/d.avi")
    assert sources(listed) == [
        ("run/a.avi", "a"),
        ("deep/er/b.avi", "b"),
        ("mp4/c.mp4", "c"),
        ("swim/d.avi", "d"),
    ]
    assert {video.splits for video in listed.splits["videos"]} == {("test1",)}
    assert listed.root == str(tmp_path) and listed.classes == ("run", "swim") and not listed.sound_only
    assert listed.notes == (f"3 of 4 listed videos are below {tmp_path}",)


def test_the_listed_path_comes_before_other_copies(tmp_path):
    touch(tmp_path, "run/a.avi", "copy/a.avi", "mp4/a.mp4")
    assert sources(find(tmp_path, "run/a.avi")) == [("run/a.avi", "a")]


def test_the_name_comes_before_the_stem(tmp_path):
    touch(tmp_path, "x/a.mp4", "y/a.avi")
    assert sources(find(tmp_path, "run/a.avi")) == [("y/a.avi", "a")]


@pytest.mark.parametrize("copies", [("x/a.avi", "y/a.avi"), ("x/a.mp4", "y/a.webm")])
def test_two_files_for_one_are_an_error_that_names_both(tmp_path, copies):
    touch(tmp_path, *copies)
    with pytest.raises(ManifestError, match=rf"run/a.avi is listed, and 2 files .*: {copies[0]}, {copies[1]}"):
        find(tmp_path, "run/a.avi")


def test_one_file_for_two_is_an_error_that_names_both(tmp_path):
    touch(tmp_path, "a.avi")
    with pytest.raises(ManifestError, match=r"a.avi in .* answers to two .* run/a.avi and swim/a.avi"):
        find(tmp_path, "run/a.avi", "swim/a.avi")


def test_none_is_an_error(tmp_path):
    touch(tmp_path, "other.avi")
    with pytest.raises(ManifestError, match=r"not one of the 2 listed videos .*run/a.avi"):
        find(tmp_path, "run/a.avi", "run/b.avi")
