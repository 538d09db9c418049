"""ESC-50 and the scenes of DCASE2013."""

import pytest

from cmav.media.manifest import ManifestError
from cmav.prep import datasets
from tests.prep.sample_lists import touch, write

HEADER = "filename,fold,target,category,esc10,src_file,take\n"
ROWS = "1-100032-A-0.wav,1,0,dog,True,100032,A\n5-9032-A-1.wav,5,1,rain,True,9032,A\n1-7-B-0.wav,1,0,dog,True,7,B\n"


def videos_of(listed):
    return {v.source: (v.label, v.label_name, v.splits) for v in listed.splits["videos"]}


@pytest.mark.parametrize("folder", [".", "meta"])
def test_esc50(tmp_path, folder):
    touch(tmp_path, "audio/1-100032-A-0.wav", "audio/5-9032-A-1.wav")
    write(tmp_path / folder, esc50__csv=HEADER + ROWS)
    listed = datasets.read("esc50", str(tmp_path), str(tmp_path), None)
    assert listed.sound_only and listed.classes == ("dog", "rain")
    assert videos_of(listed) == {
        "audio/1-100032-A-0.wav": (0, "dog", ("fold1",)),
        "audio/1-7-B-0.wav": (0, "dog", ("fold1",)),
        "audio/5-9032-A-1.wav": (1, "rain", ("fold5",)),
    }


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "no esc50.csv, nor has meta.*karolpiczak"),
        ("filename,fold,target\n", "must have the columns filename, fold, target, category"),
        (HEADER + "a.wav,x,0,dog\n", "line 2: `target` and `fold` must be numbers"),
        (HEADER + "a.wav,1,0,dog\nb.wav,1,0,cat\n", "line 3: target 0 is both 'dog' and 'cat'"),
        (HEADER + "a.wav,1,0,dog\nb.wav,1,2,cat\n", r"all numbers from 0 on, but are \[0, 2\]"),
        (HEADER, "all numbers from 0 on"),
    ],
)
def test_wrong_esc50_lists(tmp_path, text, message):
    if text is not None:
        write(tmp_path, esc50__csv=text)
    with pytest.raises(ManifestError, match=message):
        datasets.read("esc50", str(tmp_path), str(tmp_path), None)


def test_dcase2013(tmp_path):
    touch(
        tmp_path, "scenes_stereo/bus01.wav", "scenes_stereo_testset/bus01.wav", "audio/test_tubestation10.wav",
        "scenes_stereo/tube07.flac", "scenes_stereo/readme01.wav", "scenes_stereo/bus.txt",
    )  # fmt: skip
    listed = datasets.read("dcase2013", str(tmp_path), None, None)
    assert listed.sound_only and len(listed.classes) == 10
    assert videos_of(listed) == {
        "audio/test_tubestation10.wav": (9, "tubestation", ("test",)),
        "scenes_stereo/bus01.wav": (0, "bus", ("train",)),
        "scenes_stereo/tube07.flac": (8, "tube", ("train",)),
        "scenes_stereo_testset/bus01.wav": (0, "bus", ("test",)),
    }
    assert len({video.name for video in listed.splits["videos"]}) == 4
    assert "2 files of the official split 'test' are there, of 100" in listed.notes[1]


def test_dcase2013_from_one_of_its_folders(tmp_path):
    touch(tmp_path / "scenes_stereo_testset", "bus01.wav")
    listed = datasets.read("dcase2013", str(tmp_path / "scenes_stereo_testset"), None, None)
    assert videos_of(listed) == {"bus01.wav": (0, "bus", ("test",))}


def test_no_dcase2013(tmp_path):
    touch(tmp_path, "cat01.wav")
    with pytest.raises(ManifestError, match=r"is called as bus01.wav is; get scenes_stereo.zip"):
        datasets.read("dcase2013", str(tmp_path), None, None)
    with pytest.raises(ManifestError, match="has no lists"):
        datasets.read("dcase2013", str(tmp_path), str(tmp_path), None)
