"""Which videos are listed, what they are called, and what is said of a wrong CSV."""

import pytest

from cmav.media import manifest
from cmav.media.manifest import ManifestError, Video


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp4", "a.MKV", "sub/c.webm", "sub/deep/b.avi", "notes.txt", "cover.jpg", "sound.flac", "list.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path


def read_csv(folder, text, split=None):
    path = folder / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return manifest.read(str(path), split)


def test_a_folder_is_walked_in_a_fixed_order(folder):
    listed = manifest.read(str(folder), None)
    assert listed.root == str(folder)
    assert list(listed.splits) == ["train"]
    assert listed.splits["train"] == [
        Video("a.MKV", "a"),
        Video("b.mp4", "b.mp4"),  # two files have the stem b
        Video("sound.flac", "sound"),
        Video("sub/c.webm", "c"),
        Video("sub/deep/b.avi", "sub/deep/b.avi"),
    ]
    assert list(manifest.read(str(folder), "test").splits) == ["test"]


def test_linked_folders_belong_to_it_but_circles_end(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "d.mp4").write_bytes(b"x")
    (folder / "linked").symlink_to(other)
    (other / "back").symlink_to(folder)
    sources = [video.source for video in manifest.read(str(folder), None).splits["train"]]
    assert sources.count("linked/d.mp4") == 1 and len(sources) == 6


def test_remote_folders_are_walked_alike(folder):
    here = manifest.read(str(folder), None)
    there = manifest.read(f"file://{folder}", None)
    assert there.splits == here.splits
    assert there.splits["train"][3].path(there.root) == f"file://{folder}/sub/c.webm"


def test_csv(folder):
    text = """\ufeffpath, start, end, label, splits, remark
a.MKV, 1.5, 12.0004, swim, test1;test2, x
sub/../b.mp4,,,run,,y

/elsewhere/z.mp4,3,,,,
"""
    listed = read_csv(folder, text)
    assert listed.root == str(folder) and listed.classes == ("run", "swim")
    assert [note.partition(": ")[2] for note in listed.notes] == ["columns that are not used: remark"]
    assert listed.splits == {
        "train": [
            Video("a.MKV", "a", 1.5, 12.0, 1, "swim", ("test1", "test2")),
            Video("b.mp4", "b", label=0, label_name="run"),
            Video("/elsewhere/z.mp4", "z", start=3.0),
        ]
    }
    assert listed.splits["train"][2].path(listed.root) == "/elsewhere/z.mp4"
    assert listed.splits["train"][1].path(listed.root) == str(folder / "b.mp4")


def test_splits_of_a_csv_share_their_classes_and_names(folder):
    text = "path,label,split\na.MKV,run,train\nb.mp4,swim,test\nsub/deep/b.avi,fly,train\n"
    both = read_csv(folder, text)
    assert list(both.splits) == ["test", "train"]
    test = read_csv(folder, text, "test")
    assert test.splits == {"test": both.splits["test"]}
    assert both.splits["test"][0].label == 2 and both.splits["train"][1].label == 0
    assert both.splits["test"][0].name == "b.mp4"


def test_labels_that_are_numbers_stay(folder):
    listed = read_csv(folder, "path,label\na.MKV,7\nb.mp4,\nsub/c.webm,0\n")
    assert listed.classes == ()
    assert [video.label for video in listed.splits["train"]] == [7, -1, 0]
    assert [video.label_name for video in listed.splits["train"]] == ["7", "", "0"]


def test_parts_of_one_file_get_different_clip_ids(folder):
    rows = ["a.MKV,0,10", "a.MKV,20,30", "a.MKV,5,15", "a.MKV,40,", "a.MKV,50,60", "a.MKV,0,10"]
    listed = read_csv(folder, "path,start,end\n" + "\n".join(rows))
    assert [video.name for video in listed.splits["train"]] == ["a", "a", "a~3", "a", "a~6", "a~2"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("file,start\na.MKV,0\n", "no column `path` .columns there: file, start"),
        ("", "no column `path`"),
        ("path,start\na.MKV,0\nb.mp4,soon\n", "line 3: `start` must be a number of seconds, not 'soon'"),
        ("path,start\na.MKV,-1\n", "line 2: `start` must be a number"),
        ("path,end\na.MKV,inf\n", "line 2: `end` must be a number"),
        ("path,start,end\na.MKV,4,4\n", r"line 2: `end` \(4\) must be greater"),
        ("path,label\n,x\n", "line 2: `path` is empty"),
        ('path,label\na.MKV,"x\ny"\n', "line 3: `label` has more than one line"),
        ("path,split\na.MKV,\n", "line 2: `split` is empty"),
        ("path\n", "lists no video"),
        (b"path\n\xff\xfe.mp4\n", "UTF-8"),
    ],
)
def test_a_wrong_csv_is_an_error_that_names_the_row(folder, text, message):
    with pytest.raises(ManifestError, match=message):
        read_csv(folder, text)


def test_a_split_that_is_not_listed(folder):
    with pytest.raises(ManifestError, match=r"'dev' .it lists: test, train"):
        read_csv(folder, "path,split\na.MKV,train\nb.mp4,test\n", "dev")


def test_nothing_to_build_from(tmp_path):
    with pytest.raises(ManifestError, match="no such folder or CSV"):
        manifest.read(str(tmp_path / "none"), None)
    with pytest.raises(ManifestError, match=r"(?s)no file there .*synthesize_videos"):
        manifest.read(str(tmp_path), None)
