"""How fast clips come from shards, beside other ways to read and decode them.

    python -m benchmarks.input --data DIR --split train --json input.json

Each row makes training clips of the synchronization task (`config.task` "avs"): pictures cropped at random, one aligned
and one shifted sound. Rows that a package is missing for say so.

| row                | what makes the clips                                                                            |
| ------------------ | ----------------------------------------------------------------------------------------------- |
| `cmav`             | `cmav.data.pipeline.Loader`, one thread: what the others' ratios are of                         |
| `cmav, N threads`  | the same, with a thread for each core                                                           |
| `cmav, far`        | the same with one thread and with N, where every request to read takes `--latency` longer       |
| `tf.data`          | `TFRecordDataset` over the shards, a shuffle buffer of 16 records, the same TensorFlow function |
| `grain`            | Grain over an ArrayRecord file of the same records, by number, the same TensorFlow function     |
| `pyav`             | PyAV from MP4 files of the records' pictures: H.264, pictures alone                             |
| `torchcodec`       | TorchCodec from the same files, pictures alone                                                  |

The two last have random moments of the same length, cropped alike, and no sound. The MP4 files have a key frame every
30 frames.

All rows alternate, `--rounds` times after one that is not counted, so that all meet the same weather. Of each turn the
first batch is not counted either: it starts threads and fills buffers. `clips/s` is by the clock; `clips/CPU s` is
clips per second of one core's work, which hardly depends on what else the machine does. Both are medians, with the
least and the greatest; `ratio` is the median over the rounds of how many times faster than `cmav` a row was by the
clock.
"""

import argparse
import contextlib
import functools
import importlib.util
import io
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import measuring
from cmav import memory
from cmav.config import get_default
from cmav.data import pipeline, resampling, schema, storage
from cmav.data.index import SplitIndex
from cmav.data.layout import shard_path
from cmav.errors import UserError
from cmav.tables import markdown
from cmav.tasks import Task, make_task

Batches = Callable[[int], Iterator[Any]]  # of a round's number: its batches

RATES = (29.97, 7.5)
SHUFFLE = 16  # records in tf.data's buffer
KEY_FRAMES = 30  # frames from one to the next in MP4 files


def measure(rows: dict[str, Batches], rounds: int, batch_size: int) -> dict[str, list[tuple[float, float]]]:
    """Clips per second by the clock and per second of CPU time, of each row in each round; the rows alternate."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for number, (name, batches) in itertools.product(range(rounds + 1), rows.items()):
        with contextlib.closing(batches(number)) as made:
            next(made)
            clock, cpu = time.perf_counter(), time.process_time()
            clips = sum(batch_size for _ in made)
            speeds = clips / (time.perf_counter() - clock), clips / (time.process_time() - cpu)
        if number:
            found[name].append(speeds)
    return found


def summarize(found: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """A row for each: median, least and greatest of both speeds, and the ratio by the clock to the first of them."""
    reference = np.array(next(iter(found.values())))[:, 0]
    rows = []
    for name, speeds in found.items():
        clock, cpu = np.array(speeds).T
        rows.append(
            {
                "row": name,
                **{
                    key: measuring.summary([float(speed) for speed in x])
                    for key, x in (("clips_per_second", clock), ("clips_per_cpu_second", cpu))
                },
                "ratio": float(np.median(clock / reference)),
            }
        )
    return rows


@contextlib.contextmanager
def far_storage(latency: float) -> Iterator[None]:
    """Within it, every request to read from a file that `cmav.data.storage` opens takes so many seconds longer."""

    class FarFile(io.FileIO):
        def readinto(self, buffer):
            time.sleep(latency)
            return super().readinto(buffer)

    def open_to_read(path: str, *, buffer_size: int):
        return io.BufferedReader(FarFile(path), max(buffer_size, 1))

    original, storage.open_to_read = storage.open_to_read, open_to_read
    try:
        yield
    finally:
        storage.open_to_read = original


class Rows:
    """What makes the batches of each row, of clips at one frame rate; the others' files are in `folder`."""

    def __init__(self, args: argparse.Namespace, index: SplitIndex, frame_rate: float, folder: str):
        self._config = get_default("avs")
        self._config.data.crop_size = args.crop_size
        self._index, self._args, self._folder = index, args, folder
        phase = {"frame_rate": frame_rate, "batch_size": args.batch_size, "steps": 1}
        self.task: Task = make_task(self._config, phase)
        self.records = self.task.usable_records(index, train=True)
        self._num_batches = args.num_batches + 1

    def all(self) -> tuple[dict[str, Batches], dict[str, str]]:
        """The rows that there are, the reference first, and why others are missing."""
        threads = self._args.threads
        rows = {"cmav": self.cmav(1), f"cmav, {threads} threads": self.cmav(threads)}
        for count in (1, threads):
            rows[f"cmav, far, {count} thread{'s'[: count > 1]}"] = self.cmav(count, self._args.latency / 1000)
        rows["tf.data"] = self.tf_data()
        missing = {}
        for name, packages in PEERS.items():
            if absent := [package for package in packages if importlib.util.find_spec(package) is None]:
                missing[name] = f"{' and '.join(absent)} not installed"
            else:
                rows[name] = getattr(self, name)()
        return rows, missing

    def cmav(self, threads: int, latency: float = 0.0) -> Batches:
        self._config.data.num_threads = threads
        loader = pipeline.make_loader(self._index, self.task, self._config.data, train=True)

        def batches(number: int) -> Iterator[dict[str, np.ndarray]]:
            size = self._args.batch_size
            first = number * self._num_batches * size
            with far_storage(latency) if latency else contextlib.nullcontext():
                yield from loader.train_batches(
                    seed=0, first_example=first, batch_size=size, num_batches=self._num_batches
                )

        return batches

    def _example(self, serialized: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """What cmav's loader makes of a record, as a TensorFlow function."""
        record = resampling.at_rate(schema.parse(serialized), self._config.data.sample_rate)
        return self.task.make_example(record, seed, tf.constant(0), train=True)

    def tf_data(self) -> Batches:
        shards = sorted({shard_path(self._index.folder, self._index.physical_split, int(shard), self._index.num_shards)
                         for shard in self._index.rows["shard"]})  # fmt: skip

        def batches(number: int) -> Iterator[Any]:
            records = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards), seed=number)
            records = records.interleave(tf.data.TFRecordDataset, cycle_length=4).repeat().shuffle(SHUFFLE, seed=number)
            seeds = tf.data.Dataset.range(2**31 - 1)
            examples = tf.data.Dataset.zip(records, seeds).map(
                lambda record, seed: self._example(record, tf.stack([number, tf.cast(seed, tf.int32)])),
                num_parallel_calls=1,
            )
            examples = examples.batch(self._args.batch_size).take(self._num_batches).prefetch(1)
            options = tf.data.Options()
            options.threading.private_threadpool_size = options.threading.max_intra_op_parallelism = 1
            yield from examples.with_options(options).as_numpy_iterator()

        return batches

    def grain(self) -> Batches:
        import grain  # as all of the peers: only where it is there
        from array_record.python import array_record_data_source, array_record_module

        path = f"{self._folder}/records.array_record"
        if not os.path.exists(path):
            writer = array_record_module.ArrayRecordWriter(path, "group_size:1")
            for record in self.records:
                writer.write(self._index.read(int(record)))
            writer.close()
        source = array_record_data_source.ArrayRecordDataSource(path)
        signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)]
        example = tf.function(self._example, input_signature=signature, autograph=False).get_concrete_function()

        def make(number: int, serialized: bytes) -> dict[str, np.ndarray]:
            made = example(tf.constant(np.array(serialized, object)), tf.constant([0, number % 2**31]))
            return {key: value.numpy() for key, value in made.items()}

        def batches(number: int) -> Iterator[Any]:
            data = grain.MapDataset.source(source).seed(number).shuffle().repeat().map_with_index(make)
            options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
            examples = data.to_iter_dataset(options).batch(self._args.batch_size)
            yield from itertools.islice(examples, self._num_batches)

        return batches

    def pyav(self) -> Batches:
        paths = self._videos()

        def clip(path: str, start: int, crop: tuple[slice, slice]) -> np.ndarray:
            import av

            wanted = range(start, start + self.task.clip.stored_frames, self.task.clip.stride)
            frames = []
            with av.open(path) as container:
                stream = container.streams.video[0]
                stream.thread_type = "NONE"
                one = 1 / (stream.average_rate * stream.time_base)  # a frame, in units of time stamps
                container.seek(round(start * one), stream=stream)
                for frame in container.decode(stream):
                    number = round(frame.pts / one)
                    if number in wanted:
                        frames.append(frame.to_ndarray(format="rgb24")[crop])
                    if number >= wanted[-1]:
                        return np.stack(frames)
            raise ValueError(f"{path} ends before frame {wanted[-1]}")

        return self._of_files(paths, clip)

    def torchcodec(self) -> Batches:
        from torchcodec.decoders import VideoDecoder

        def clip(path: str, start: int, crop: tuple[slice, slice]) -> np.ndarray:
            decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate")
            stop = start + self.task.clip.stored_frames
            return decoder.get_frames_in_range(start, stop, self.task.clip.stride).data.numpy()[:, *crop]

        return self._of_files(self._videos(), clip)

    def _of_files(self, paths: list[str], clip: Callable[[str, int, tuple[slice, slice]], np.ndarray]) -> Batches:
        """Batches of clips at random moments of random files, one after the other, and cropped at random."""
        side, size = self._side(), self._args.crop_size

        def batches(number: int) -> Iterator[np.ndarray]:
            rng = np.random.default_rng(number)
            for _ in range(self._num_batches):
                clips = []
                for _ in range(self._args.batch_size):
                    place = int(rng.integers(len(paths)))
                    start = int(rng.integers(self._num_frames(place) - self.task.clip.stored_frames + 1))
                    y, x = rng.integers(side - size + 1, size=2)
                    clips.append(clip(paths[place], start, (slice(y, y + size), slice(x, x + size))))
                yield np.stack(clips)

        return batches

    def _num_frames(self, place: int) -> int:
        return round(float(self._index.rows["seconds"][self.records[place]]) * self._config.data.stored_frame_rate)

    @functools.cache  # noqa: B019  # as long-lived as the program
    def _side(self) -> int:
        return tf.io.decode_jpeg(self._frames(0)[0]).shape[0]

    def _frames(self, place: int) -> np.ndarray:
        return schema.parse(tf.constant(self._index.read(int(self.records[place]))))["frames"].numpy()

    def _videos(self) -> list[str]:
        """The usable records' pictures as MP4 files, made where they are not there yet."""
        from fractions import Fraction

        import av

        paths = [f"{self._folder}/{record}.mp4" for record in self.records]
        for place, path in enumerate(paths):
            if os.path.exists(path):
                continue
            with av.open(path, "w") as container:
                rate = Fraction(self._config.data.stored_frame_rate).limit_denominator(1001)
                stream = container.add_stream(
                    "libx264", rate=rate, options={"g": str(KEY_FRAMES), "preset": "veryfast"}
                )
                stream.width = stream.height = self._side()
                stream.pix_fmt = "yuv420p"
                for jpeg in self._frames(place):
                    picture = tf.io.decode_jpeg(jpeg, channels=3).numpy()
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                container.mux(stream.encode())
        return paths


# Rows of other packages, and what must be there for them.
PEERS = {"grain": ("grain", "array_record"), "pyav": ("av",), "torchcodec": ("torch", "torchcodec")}


def main() -> int:
    data = get_default().data
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data.dir, help="dataset folder (default: %(default)s)")
    parser.add_argument("--split", default=data.train_split, help="default: %(default)s")
    parser.add_argument("--frame_rate", type=float, nargs="+", default=RATES, help="in Hz (default: 29.97 and 7.5)")
    parser.add_argument("--crop_size", type=int, default=data.crop_size, help="in pixels (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=pipeline.num_cpus(), help="default: one per CPU core")
    parser.add_argument("--latency", type=float, default=20.0, help="of far storage, in ms (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--num_batches", type=int, default=3, help="counted, in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="writes the numbers there too")
    args = parser.parse_args()
    memory.keep_freed(one_arena=False)  # As training does beside an accelerator.
    results = []
    try:
        index = SplitIndex.load(args.data, args.split)
        with tempfile.TemporaryDirectory() as folder:
            for frame_rate in args.frame_rate:
                results.append(compare(Rows(args, index, frame_rate, folder), args, frame_rate))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"threads": args.threads, "latency_ms": args.latency, "results": results}, file, indent=2)
    return 0


def compare(rows: Rows, args: argparse.Namespace, frame_rate: float) -> dict[str, Any]:
    """Measures and prints all rows at one frame rate."""
    made, missing = rows.all()
    measured = summarize(measure(made, args.rounds, args.batch_size))
    clip = rows.task.clip
    print(f"\nclips of {clip.num_frames} frames of {args.crop_size}x{args.crop_size}, {len(rows.records)} records\n")
    lines = [
        [row["row"], *(_speed(row[key]) for key in ("clips_per_second", "clips_per_cpu_second")), f"{row['ratio']:.2f}"]
        for row in measured
    ]
    lines += [[name, f"missing: {why}", "", ""] for name, why in missing.items()]
    print(markdown(["", "clips/s", "clips/CPU s", "ratio"], lines), flush=True)
    measured += [{"row": name, "missing": why} for name, why in missing.items()]
    return {"frame_rate": frame_rate, "frames": clip.num_frames, "crop_size": args.crop_size, "rows": measured}


def _speed(speed: dict[str, float]) -> str:
    return f"{speed['median']:.1f} ({speed['least']:.1f}–{speed['most']:.1f})"


if __name__ == "__main__":
    sys.exit(main())
