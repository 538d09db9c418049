import os

import pytest

from cmav.media.videos import Video
from cmav.prep import overlap


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([("a", 0, None)], [("a", 0, None)]),
        ([("a", 0, 10)], [("a", 9.5, 20)]),
        ([("a", 5, None)], [("a", 100, 101)]),
        ([("a", 0, 50), ("a", 1, 2)], [("a", 3, 4)]),
        ([("b", 0, 1), ("a", 3, 4)], [("a", 0, 50)]),
    ],
)
def test_moments_in_two_splits_are_refused(train, validation):
    with pytest.raises(overlap.OverlapError, match="1 file is in two splits") as caught:
        overlap.check({"train": train, "validation": validation})
    assert "'train'" in str(caught.value) and "'validation'" in str(caught.value) and "  a: " in str(caught.value)


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([("a", 0, None), ("a", 0, None)], [("b", 0, None)]),
        ([("a", 0, 10)], [("a", 10, 20), ("a", 12, 20)]),
        ([("a", 0, 10), ("a", 20, None)], [("a", 10, 20)]),
    ],
)
def test_parts_side_by_side_and_within_a_split_are_not(train, validation):
    overlap.check({"train": train, "validation": validation})


def test_only_some_of_many_are_named():
    parts = [(f"v{number}", 0, None) for number in range(10)]
    with pytest.raises(overlap.OverlapError, match=r"10 files are in two splits(.*\n){4}  … and 7 more"):
        overlap.check({"train": parts, "test": parts})


def test_a_file_is_the_same_behind_links_and_other_roots(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    (tmp_path / "linked").symlink_to(tmp_path / "videos")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "videos" / "a.mp4")
    real = os.path.realpath(tmp_path / "videos" / "a.mp4")
    for source, root in [
        ("a.mp4", tmp_path / "videos"),
        ("videos/a.mp4", tmp_path),
        ("a.mp4", tmp_path / "linked"),
        ("b.mp4", tmp_path),
        (str(tmp_path / "linked" / "a.mp4"), tmp_path / "elsewhere"),
    ]:
        assert overlap.real_parts([Video(source, "a", start=1.0)], str(root)) == [(real, 1.0, None)]
    assert overlap.real_parts([Video("a.mp4", "a"), Video("gs://c/a.mp4", "c", end=1.0)], "gs://b/videos") == [
        ("gs://b/videos/a.mp4", 0, None),
        ("gs://c/a.mp4", 0, 1),
    ]
