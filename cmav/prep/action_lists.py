"""The official lists of the action recognition sets: UCF101, HMDB51 and Kinetics-Sounds."""

import collections
import csv
import dataclasses
import io
import posixpath
import re

import tensorflow as tf

from cmav.data import storage
from cmav.media.manifest import Manifest, ManifestError, Video, read_text
from cmav.prep import found

UCF101_SOURCE = "UCF101TrainTestSplits-RecognitionTask.zip on https://www.crcv.ucf.edu/data/UCF101.php"
HMDB51_SOURCE = (
    "the three splits on https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database (a .rar of .txt)"
)
KINETICS_SOURCE = "the annotations on https://github.com/cvdfoundation/kinetics-dataset"

# Arandjelovic & Zisserman, "Look, Listen and Learn" (arXiv:1705.08168), appendix A.1, name 34 classes of Kinetics as it
# was before its release. These are the 31 of them that the released Kinetics-400 has, as in the code of later work, by
# their released names: "blowing out", "dribbling ball", "mowing the lawn by pushing lawnmower" and "stomping" became
# "blowing out candles", "dribbling basketball", "mowing lawn" and "stomping grapes"; "fingerpicking", "patting" and
# "typing" were dropped. Others chose otherwise: before you compare numbers, compare the lists.
KINETICS_SOUNDS_CLASSES = (
    "blowing nose",
    "blowing out candles",
    "bowling",
    "chopping wood",
    "dribbling basketball",
    "laughing",
    "mowing lawn",
    "playing accordion",
    "playing bagpipes",
    "playing bass guitar",
    "playing clarinet",
    "playing drums",
    "playing guitar",
    "playing harmonica",
    "playing keyboard",
    "playing organ",
    "playing piano",
    "playing saxophone",
    "playing trombone",
    "playing trumpet",
    "playing violin",
    "playing xylophone",
    "ripping paper",
    "shoveling snow",
    "shuffling cards",
    "singing",
    "stomping grapes",
    "tap dancing",
    "tapping guitar",
    "tapping pen",
    "tickling",
)
_KINETICS_SPLITS = {"val": "validation", "validate": "validation"}  # other names stay
_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


def ucf101(videos: str, lists: str, split: str) -> Manifest:
    """Reads `classInd.txt` ("1 ApplyEyeMakeup": class 0), `trainlist0N.txt` ("Class/v_....avi 1") and `testlist0N.txt`.

    The official splits are train1, test1, ... of those lists that are there. A video's class is its folder.

    Raises:
      ManifestError: where a list is missing or a line is wrong.
    """
    classes = _class_index(posixpath.join(lists, "classInd.txt"))
    numbers = {name: number for number, name in enumerate(classes)}
    splits = collections.defaultdict(list)
    for kind in ("train", "test"):
        for n in (1, 2, 3):
            path = posixpath.join(lists, f"{kind}list{n:02d}.txt")
            for where, line in _lines(path) if storage.exists(path) else ():
                video, _, label = line.rpartition(" ") if kind == "train" else (line, "", "")
                name = video.partition("/")[0]
                if name not in numbers or (label and label != str(numbers[name] + 1)):
                    raise ManifestError(f"{where}: {line!r} does not fit classInd.txt")
                splits[video].append(f"{kind}{n}")
    if not splits:
        raise ManifestError(f"--lists {lists} has no trainlist01.txt nor testlist01.txt, ...; get {UCF101_SOURCE}")
    listed = [_labelled(path, path.partition("/")[0], numbers, splits[path]) for path in sorted(splits)]
    return found.find(videos, split, listed, classes)


def hmdb51(videos: str, lists: str, split: str) -> Manifest:
    """Reads `<class>_test_split{1,2,3}.txt`: "file.avi n", n being 0 for unused, 1 for train, 2 for test.

    The official splits are train1, test1, ...; classes are in alphabetical order. Videos that no split uses are built
    too.

    Raises:
      ManifestError: where there are no such lists, or a line is wrong.
    """
    splits = collections.defaultdict(list)
    classes = set()
    for name in sorted(tf.io.gfile.listdir(lists)):
        match = re.fullmatch(r"(.+)_test_split([123])\.txt", name)
        if not match:
            continue
        label, n = match.groups()
        classes.add(label)
        for where, line in _lines(posixpath.join(lists, name)):
            file, _, use = line.rpartition(" ")
            if not file or use not in ("0", "1", "2"):
                raise ManifestError(f'{where}: {line!r} is not "file.avi n" with n 0, 1 or 2')
            splits[f"{label}/{file.strip()}"] += {"0": [], "1": [f"train{n}"], "2": [f"test{n}"]}[use]
    if not splits:
        raise ManifestError(f"--lists {lists} has no file such as brush_hair_test_split1.txt; get {HMDB51_SOURCE}")
    numbers = {name: number for number, name in enumerate(sorted(classes))}
    listed = [_labelled(path, path.partition("/")[0], numbers, splits[path]) for path in sorted(splits)]
    return found.find(videos, split, listed, tuple(numbers))


def kinetics_sounds(videos: str, lists: str, split: str) -> Manifest:
    """Reads Kinetics' own CSV files (label, youtube_id, time_start, time_end, split), of which it keeps 31 classes.

    The videos are `<youtube_id>_<start, 6 digits>_<end, 6 digits>.mp4`. The official splits are train, validation and
    test, as far as the files have labels for them: some releases keep those of the test split back.

    Raises:
      ManifestError: where there are no such files, or a line is wrong.
    """
    numbers = {name: number for number, name in enumerate(KINETICS_SOUNDS_CLASSES)}
    labels: dict[str, str] = {}
    splits = collections.defaultdict(list)
    notes = []
    for name in sorted(tf.io.gfile.listdir(lists)):
        if not name.endswith(".csv"):
            continue
        path = posixpath.join(lists, name)
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        lacking = set(_KINETICS_COLUMNS) - set(reader.fieldnames or ())
        if lacking == {"label"}:
            notes.append(f"{path} has no labels and is not used")
        if lacking:
            continue
        for row in reader:
            if row["label"] not in numbers:
                continue
            try:
                start, end = int(float(row["time_start"])), int(float(row["time_end"]))
            except (TypeError, ValueError) as error:
                raise ManifestError(f"{path}, line {reader.line_num}: times must be seconds ({error})") from error
            video = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
            if labels.setdefault(video, row["label"]) != row["label"]:
                raise ManifestError(f"{path}, line {reader.line_num}: {video} is also listed as {labels[video]!r}")
            splits[video].append(_KINETICS_SPLITS.get(row["split"], row["split"]))
    if not labels:
        raise ManifestError(
            f"--lists {lists} has no CSV file with the columns {', '.join(_KINETICS_COLUMNS)} and a Kinetics-Sounds "
            f"class in it; get {KINETICS_SOURCE}"
        )
    listed = [_labelled(path, labels[path], numbers, splits[path]) for path in sorted(labels)]
    manifest = found.find(videos, split, listed, KINETICS_SOUNDS_CLASSES)
    return dataclasses.replace(manifest, notes=(*manifest.notes, *notes))


def _labelled(path: str, label: str, numbers: dict[str, int], splits: list[str]) -> Video:
    return Video(path, "", label=numbers[label], label_name=label, splits=tuple(sorted(set(splits))))


def _class_index(path: str) -> tuple[str, ...]:
    """Names of the classes in the order of `classInd.txt`, which numbers them from 1."""
    if not storage.exists(path):
        raise ManifestError(f"there is no {path}; get {UCF101_SOURCE}")
    classes = []
    for where, line in _lines(path):
        number, _, name = line.partition(" ")
        if number != str(len(classes) + 1) or not name:
            raise ManifestError(f'{where}: {line!r} is not "{len(classes) + 1} ClassName"')
        classes.append(name)
    return tuple(classes)


def _lines(path: str) -> list[tuple[str, str]]:
    """The lines of a list that are not empty, each with its place in words."""
    lines = enumerate(read_text(path).splitlines(), start=1)
    return [(f"{path}, line {number}", line.strip()) for number, line in lines if line.strip()]
