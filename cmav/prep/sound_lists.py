"""The official lists of the sound classification sets: ESC-50 and the scenes of DCASE2013. Files without pictures."""

import collections
import csv
import io
import posixpath
import re

from cmav.data import storage
from cmav.media import manifest
from cmav.media.manifest import Manifest, ManifestError, Video
from cmav.prep import found

ESC50_SOURCE = "https://github.com/karolpiczak/ESC-50 (meta/esc50.csv)"
DCASE2013_SOURCE = (
    "scenes_stereo.zip on https://archive.org/details/dcase2013_scene_classification and scenes_stereo_testset.zip on "
    "https://archive.org/details/dcase2013_scene_classification_testset"
)
DCASE2013_CLASSES = (
    "bus",
    "busystreet",
    "office",
    "openairmarket",
    "park",
    "quietstreet",
    "restaurant",
    "supermarket",
    "tube",
    "tubestation",
)
DCASE2013_FILES = 100  # in each of its two sets, 10 of each class
_ESC50_COLUMNS = ("filename", "fold", "target", "category")


def esc50(videos: str, lists: str, split: str) -> Manifest:
    """Reads `esc50.csv`, in the folder of the lists or in `meta` there. The official splits are fold1 to fold5.

    Each file is in one fold. Labels are the column `target`, names the column `category`.

    Raises:
      ManifestError: where the file is missing or a line is wrong.
    """
    paths = [posixpath.join(lists, *parts, "esc50.csv") for parts in ((), ("meta",))]
    path = next(filter(storage.exists, paths), None)
    if path is None:
        raise ManifestError(f"--lists {lists} has no esc50.csv, nor has meta in it; get {ESC50_SOURCE}")
    reader = csv.DictReader(io.StringIO(manifest.read_text(path), newline=""))
    if not set(_ESC50_COLUMNS) <= set(reader.fieldnames or ()):
        raise ManifestError(f"{path}: the header line must have the columns {', '.join(_ESC50_COLUMNS)}")
    classes: dict[int, str] = {}
    listed = []
    for row in reader:
        target, fold = row["target"], row["fold"]
        if not target.isdecimal() or not fold.isdecimal() or not row["category"] or not row["filename"]:
            raise ManifestError(f"{path}, line {reader.line_num}: `target` and `fold` must be numbers, nothing empty")
        if classes.setdefault(int(target), row["category"]) != row["category"]:
            raise ManifestError(
                f"{path}, line {reader.line_num}: target {target} is both {classes[int(target)]!r} and "
                f"{row['category']!r}"
            )
        listed.append(
            Video(
                f"audio/{row['filename']}", "", label=int(target), label_name=row["category"], splits=(f"fold{fold}",)
            )
        )
    if sorted(classes) != list(range(len(classes))) or not classes:
        raise ManifestError(f"{path}: the targets must be all numbers from 0 on, but are {sorted(classes)}")
    names = tuple(name for _, name in sorted(classes.items()))
    return found.find(videos, split, sorted(listed, key=lambda video: video.source), names, sound_only=True)


def dcase2013(videos: str, lists: str | None, split: str) -> Manifest:
    """Lists the scenes of DCASE2013 (10 classes, 30 s each) by their names; there are no lists.

    As published, `scenes_stereo.zip` is the public set, here the official split "train", and
    `scenes_stereo_testset.zip` the private set, later released, here "test". In both, files are called by class and two
    digits, "bus01.wav", and files of both may share a name. So a file is of "test" where a folder of its path has
    "testset" in its name, or its own name begins with "test_", as the tool `dcase_util` renames them.

    Raises:
      ManifestError: where --lists is given, or no such file is there.
    """
    if lists:
        raise ManifestError("--dataset dcase2013 has no lists: leave --lists out")
    root = manifest.absolute(videos)
    listed = []
    for source in sorted(filter(manifest.is_media, manifest.files_below(root))):
        match = re.fullmatch(r"(test_)?([a-z]+)\d+", manifest.stem(source))
        if not match or match[2] not in DCASE2013_CLASSES:
            continue
        folder = posixpath.join(posixpath.basename(root), posixpath.dirname(source))
        official = "test" if match[1] or "testset" in folder else "train"
        label = DCASE2013_CLASSES.index(match[2])
        listed.append(Video(source, "", label=label, label_name=match[2], splits=(official,)))
    if not listed:
        raise ManifestError(f"--videos {videos}: no file below it is called as bus01.wav is; get {DCASE2013_SOURCE}")
    counts = collections.Counter(video.splits[0] for video in listed)
    notes = tuple(
        f"dcase2013: {counts[name]} files of the official split {name!r} are there, of {DCASE2013_FILES}"
        for name in ("train", "test")
    )
    splits = {split: manifest.named(listed)}
    return Manifest(root, splits, DCASE2013_CLASSES, notes, sound_only=True)
