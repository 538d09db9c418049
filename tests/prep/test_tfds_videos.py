"""Videos that TFDS has prepared, from a small builder with pictures of known brightness."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from cmav.data import index, schema
from cmav.media.manifest import ManifestError
from cmav.prep import build_tfrecords, shards, tfds_videos
from tests.prep.sample_work import run_here

LENGTHS = {"train": [10, 1, 25, 7, 13], "test": [4, 9]}  # frames of each video
CLASSES = ("run", "swim", "archery")
# As if defined outside of any package: in a package, TFDS 4.9.10 looks for files beside it, for which it needs
# importlib_resources, which it does not bring along.
MODULE = "made_up"


def brightness(video: int, frame: int) -> int:
    return 40 * video + 3 * frame


class TinyAction(tfds.core.GeneratorBasedBuilder):
    """Frame k of video v is grey, of a brightness that says which it is."""

    __module__ = MODULE
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "video": tfds.features.Video(shape=(None, 24, 32, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=CLASSES),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in LENGTHS}

    def _generate_examples(self, split):
        for video, length in enumerate(LENGTHS[split]):
            levels = [brightness(video, frame) for frame in range(length)]
            pictures = np.stack([np.full((24, 32, 3), level, np.uint8) for level in levels])
            yield f"{video:03d}", {"video": pictures, "label": video % 3}


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """No videos in it."""

    __module__ = MODULE
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"x": np.int64}))

    def _split_generators(self, dl_manager):
        return {"train": iter([("0", {"x": 1})])}

    def _generate_examples(self):
        return iter(())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    TinyAction(data_dir=folder).download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
    return folder


def build(prepared, out, *flags):
    dataset = ["--dataset", "tfds:tiny_action", "--videos", prepared]
    return build_tfrecords.main([*dataset, "--out", str(out), "--size", "16", "--sample_rate", "8000", *flags])


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr("cmav.prep.workers.run", run_here)


def levels_of(record) -> list[float]:
    return [float(tf.io.decode_jpeg(jpeg).numpy().mean()) for jpeg in record["frames"].numpy()]


def test_both_splits_with_labels_and_retimed_frames(prepared, here, tmp_path, capsys):
    assert build(prepared, tmp_path, "--frame_rate", "30", "--verify") == 0
    said = capsys.readouterr().out
    assert "taken to have 25 frames per second" in said and "cmav finetune --config.data.dir=" in said
    assert index.load_classes(str(tmp_path)) == CLASSES
    order = {split: TinyAction(data_dir=prepared).as_dataset(split=split) for split in LENGTHS}
    for split, lengths in LENGTHS.items():
        found = index.SplitIndex.load(str(tmp_path), split)
        assert len(found) == len(lengths) and not found.rows["has_audio"].any()
        theirs = sorted((len(e["video"]), int(e["label"]), float(e["video"][0].numpy().mean())) for e in order[split])
        ours = []
        for number in range(len(found)):
            record = schema.parse(found.read(number))
            levels = levels_of(record)
            length = lengths[round(levels[0] / 40)]
            ours.append((length, int(record["label"]), 40.0 * round(levels[0] / 40)))
            # What is on screen at k/30 s, where frame i is from i/25 s until (i + 1)/25 s.
            times = [Fraction(k, 30) for k in range(100) if Fraction(k, 30) < Fraction(length, 25)]
            shown = [max(i for i in range(length) if Fraction(i, 25) <= time) for time in times]
            np.testing.assert_allclose(levels, [levels[0] + 3 * i for i in shown], atol=2)
            assert record["frame_rate"] == 30 and record["label_name"] == CLASSES[record["label"]].encode()
            assert record["audio"].shape == (len(levels) * 8000 // 30, 2) and not record["audio"].numpy().any()
        assert sorted(ours) == theirs
    assert sorted(tfds.builder_from_directory(str(tmp_path)).info.splits) == ["test", "train"]


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(prepared, here, tmp_path, monkeypatch):
    assert build(prepared, tmp_path / "whole", "--shards", "3", "--split", "train") == 0
    flags = ["--shards", "3", "--split", "train"]
    whole_build, built = shards.build, []

    def killed_at_the_second(unit, **options):
        if built:
            raise KeyboardInterrupt
        built.append(unit.shard)
        whole_build(unit, **options)

    monkeypatch.setattr(shards, "build", killed_at_the_second)
    assert build(prepared, tmp_path / "killed", *flags) == 130
    monkeypatch.setattr(
        shards, "build", lambda unit, **options: (built.append(unit.shard), whole_build(unit, **options))
    )
    assert build(prepared, tmp_path / "killed", *flags) == 0
    assert built == [0, 1, 2]
    for path in sorted((tmp_path / "whole").glob("*train*")):
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()


def test_clips_of_a_length(prepared, here, tmp_path):
    assert build(prepared, tmp_path, "--clip_seconds", "0.2", "--frame_rate", "25", "--split", "train") == 0
    found = index.SplitIndex.load(str(tmp_path), "train")
    ids = sorted(schema.parse(found.read(number))["clip_id"].numpy().decode() for number in range(len(found)))
    assert len(ids) == 10 // 5 + 0 + 25 // 5 + 7 // 5 + 13 // 5
    assert {clip_id.rpartition("_")[2] for clip_id in ids} == {"0", "200", "400", "600", "800"}
    assert "shorter than one clip of 0.2 s (0.04 s)" in (tmp_path / "rejects.csv").read_text()


def test_a_skipped_video_does_not_shift_the_others(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cmav.prep.workers.run", lambda units, work, *_, **__: [work(unit, skip={0: "crashes"}) for unit in units]
    )
    assert build(prepared, tmp_path, "--shards", "1", "--split", "train", "--frame_rate", "25") == 0
    found = index.SplitIndex.load(str(tmp_path), "train")
    order = [len(e["video"]) for e in TinyAction(data_dir=prepared).as_dataset(split="train")]
    assert [len(schema.parse(found.read(number))["frames"]) for number in range(4)] == order[1:]


def test_what_cannot_be_built(prepared, tmp_path):
    with pytest.raises(ManifestError, match="no_such_set not found"):
        tfds_videos.read("tfds:no_such_set", prepared, None, 0)
    with pytest.raises(ManifestError, match=rf"not prepared in .*: tfds build tiny_action --data_dir {tmp_path}"):
        tfds_videos.read("tfds:tiny_action", str(tmp_path), None, 0)
    with pytest.raises(ManifestError, match="no split 'dev'; it has train, test"):
        tfds_videos.read("tfds:tiny_action", prepared, "dev", 0)
    TinyImages(data_dir=str(tmp_path)).download_and_prepare()
    with pytest.raises(ManifestError, match=r"tiny_images/1.0.0 has no video \(features: x\)"):
        tfds_videos.read("tfds:tiny_images", str(tmp_path), None, 0)
