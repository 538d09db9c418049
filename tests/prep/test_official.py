"""What official splits have come to."""

import json

from cmav.media.manifest import Video
from cmav.prep import official

VIDEOS = [
    Video("x/a.avi", "a", splits=("test1", "train2")),
    Video("x/b.avi", "b", splits=("train1", "test2")),
    Video("x/c.avi", "c", splits=("train1",)),
    Video("x/d.avi", "d"),
    Video("x/e.avi", "e", splits=("test3", "test3")),
]


def test_records_and_missing_videos():
    """Two shards, with two clips of a and one of c; with one of d."""
    collector = official.Collector(["test1", "test2", "test3", "train1", "train2"])
    collector.add(VIDEOS[:3], [0, 0, 2])
    collector.add(VIDEOS[3:], [0])
    splits = {split.name: split for split in collector.splits()}
    assert list(splits) == ["test1", "test2", "test3", "train1", "train2"]
    assert (splits["test1"].num_listed, splits["test1"].records, splits["test1"].missing) == (1, [0, 1], [])
    assert (splits["train1"].num_listed, splits["train1"].records, splits["train1"].missing) == (2, [2], ["x/b.avi"])
    assert (splits["test3"].num_listed, splits["test3"].records, splits["test3"].missing) == (1, [], ["x/e.avi"])
    written = json.loads(official.to_json(list(splits.values())))
    assert written["train1"] == {"listed": 2, "records": [2]} and list(written) == list(splits)


def test_in_words():
    missing = [f"x/v{k}.avi" for k in range(5)]
    assert str(official.OfficialSplit("test1", 3783, [0], missing)) == (
        "test1: 3,778 of the 3,783 listed videos are there; missing: v0.avi, v1.avi, v2.avi, ... (all in rejects.csv)"
    )
    assert str(official.OfficialSplit("test1", 9, [0], missing[:1])).endswith("missing: v0.avi (all in rejects.csv)")
    assert str(official.OfficialSplit("test1", 2, [0, 1], [])) == "test1: 2 of the 2 listed videos are there"


def test_no_official_splits():
    collector = official.Collector([])
    collector.add([VIDEOS[3]], [0])
    assert collector.splits() == []
