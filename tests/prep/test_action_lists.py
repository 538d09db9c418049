"""UCF101, HMDB51 and Kinetics-Sounds: lists as they are published, and what is said of wrong ones."""

import pathlib

import pytest

from cmav.media.manifest import ManifestError
from cmav.prep import action_lists, datasets
from tests.prep.sample_lists import touch, write

UCF101 = dict(
    classInd__txt="1 Run\n2 Archery\r\n\n",  # not in alphabetical order: the file's counts
    trainlist01__txt="Run/v_Run_g02_c01.avi 1\nArchery/v_Archery_g02_c01.avi 2\n",
    testlist01__txt="Run/v_Run_g01_c01.avi\r\n",
    testlist03__txt="Archery/v_Archery_g02_c01.avi\n",
)
HMDB51 = dict(
    wave_test_split1__txt="w 1_(x)!.avi 1 \nw2.avi 2 \nw3.avi 0 \n",
    wave_test_split2__txt="w 1_(x)!.avi 2 \nw2.avi 1 \nw3.avi 0 \n",
    brush_hair_test_split1__txt="b.avi 2 \n",
    class_list__txt="brush_hair\nwave\n",
)
KINETICS = dict(
    train__csv="label,youtube_id,time_start,time_end,split,is_cc\n"
    "bowling,-abc_DEF012,5,15,train,0\nabseiling,xyz,0,10,train,0\n",
    validate__csv="label,youtube_id,time_start,time_end,split\ntap dancing,AAAAAAAAAAA,120,130,val\n",
    test__csv="youtube_id,time_start,time_end,split\nBBBBBBBBBBB,1,11,test\n",
    notes__txt="",
)


def videos_of(listed):
    return {v.source: (v.label, v.label_name, v.splits) for v in listed.splits["videos"]}


def read(name, tmp_path, files, lists):
    touch(tmp_path / "videos", "other.txt", *files)
    return datasets.read(name, str(tmp_path / "videos"), str(write(tmp_path / "lists", **lists)), None)


def test_ucf101(tmp_path):
    listed = read("ucf101", tmp_path, ["v_Run_g02_c01.mp4"], UCF101)
    assert listed.classes == ("Run", "Archery")
    assert videos_of(listed) == {
        "Archery/v_Archery_g02_c01.avi": (1, "Archery", ("test3", "train1")),
        "Run/v_Run_g01_c01.avi": (0, "Run", ("test1",)),
        "v_Run_g02_c01.mp4": (0, "Run", ("train1",)),
    }


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(classInd__txt="0 Run\n"), 'classInd.txt, line 1: .* is not "1 ClassName"'),
        (dict(classInd__txt="1 Run\n3 Archery\n"), 'line 2: .* is not "2 ClassName"'),
        (dict(trainlist01__txt="Run/v.avi 2\n"), "trainlist01.txt, line 1: 'Run/v.avi 2' does not fit classInd"),
        (dict(trainlist01__txt="Run/v.avi\n"), "does not fit classInd"),
        (dict(testlist01__txt="Swim/v.avi\n"), "testlist01.txt, line 1"),
    ],
)
def test_wrong_ucf101_lists(tmp_path, change, message):
    with pytest.raises(ManifestError, match=message):
        read("ucf101", tmp_path, [], UCF101 | change)


@pytest.mark.parametrize("there, missing", [((), "classInd.txt"), (("classInd__txt",), "trainlist01.txt")])
def test_missing_ucf101_lists_and_where_to_get_them(tmp_path, there, missing):
    with pytest.raises(ManifestError, match=rf"{missing}.*crcv.ucf.edu"):
        read("ucf101", tmp_path, ["v.avi"], {name: UCF101[name] for name in there})


def test_hmdb51(tmp_path):
    listed = read("hmdb51", tmp_path, ["wave/w2.avi"], HMDB51)
    assert listed.classes == ("brush_hair", "wave")
    assert videos_of(listed) == {
        "brush_hair/b.avi": (0, "brush_hair", ("test1",)),
        "wave/w 1_(x)!.avi": (1, "wave", ("test2", "train1")),
        "wave/w2.avi": (1, "wave", ("test1", "train2")),
        "wave/w3.avi": (1, "wave", ()),
    }


@pytest.mark.parametrize("line", ["w.avi 3", "w.avi", "1"])
def test_wrong_hmdb51_lists(tmp_path, line):
    with pytest.raises(ManifestError, match=r"wave_test_split2.txt, line 1: .*file.avi n"):
        read("hmdb51", tmp_path, [], HMDB51 | dict(wave_test_split2__txt=line))


def test_missing_hmdb51_lists(tmp_path):
    with pytest.raises(ManifestError, match=r"no file such as brush_hair_test_split1.txt; get .*serre-lab"):
        read("hmdb51", tmp_path, [], dict(readme__txt=""))


def test_kinetics_sounds(tmp_path):
    listed = read("kinetics_sounds", tmp_path, ["train/bowling/-abc_DEF012_000005_000015.mp4"], KINETICS)
    assert listed.classes == action_lists.KINETICS_SOUNDS_CLASSES
    assert videos_of(listed) == {
        "train/bowling/-abc_DEF012_000005_000015.mp4": (listed.classes.index("bowling"), "bowling", ("train",)),
        "AAAAAAAAAAA_000120_000130.mp4": (listed.classes.index("tap dancing"), "tap dancing", ("validation",)),
    }
    assert "test.csv has no labels and is not used" in listed.notes[1]


def test_the_classes_of_kinetics_sounds():
    assert len(action_lists.KINETICS_SOUNDS_CLASSES) == 31
    assert list(action_lists.KINETICS_SOUNDS_CLASSES) == sorted(set(action_lists.KINETICS_SOUNDS_CLASSES))


@pytest.mark.parametrize(
    "lists, message",
    [
        (dict(test__csv=KINETICS["test__csv"]), "no CSV file with the columns label.*cvdfoundation"),
        (dict(train__csv=KINETICS["train__csv"].replace("bowling", "skiing")), "no CSV file.*Kinetics-Sounds"),
        (dict(train__csv=KINETICS["train__csv"].replace("5,15", "5,")), "train.csv, line 2: times must be seconds"),
        (
            dict(a__csv=KINETICS["train__csv"], b__csv=KINETICS["train__csv"].replace("bowling", "singing")),
            "b.csv, line 2: .* is also listed as 'bowling'",
        ),
    ],
)
def test_wrong_kinetics_lists(tmp_path, lists, message):
    with pytest.raises(ManifestError, match=message):
        read("kinetics_sounds", tmp_path, [], lists)


SHARED = pathlib.Path(__file__).parents[3] / "shared/annotations"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real lists are not part of the project")
def test_the_real_lists_have_their_known_sizes(tmp_path):
    """13,320 videos, of which split 1 has 9,537 and 3,783; HMDB51: 6,766, and 70 and 30 of each of 51 classes."""
    touch(tmp_path, "v_Archery_g01_c01.avi", "April_09_brush_hair_u_nm_np1_ba_goo_0.avi")
    ucf101 = datasets.read("ucf101", str(tmp_path), str(SHARED / "ucf101"), None).splits["videos"]
    hmdb51 = datasets.read("hmdb51", str(tmp_path), str(SHARED / "hmdb51"), None)
    count = [sum(name in video.splits for video in ucf101) for name in ("train1", "test1", "train3", "test3")]
    assert len(ucf101) == 13_320 and count == [9_537, 3_783, 9_624, 3_696]
    assert len(hmdb51.classes) == 51 and len(hmdb51.splits["videos"]) == 6_766
    for n in (1, 2, 3):
        for kind, number in (("train", 70), ("test", 30)):
            labels = [video.label for video in hmdb51.splits["videos"] if f"{kind}{n}" in video.splits]
            assert {labels.count(label) for label in range(51)} == {number}
