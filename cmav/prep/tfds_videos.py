"""Videos that TFDS has prepared, such as its `ucf101`: pictures and labels, without sound.

TFDS stores no frame rate. Videos are taken to have 25 frames per second, which UCF101 says of itself.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

import av
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from av.video.reformatter import VideoReformatter

from cmav.data import schema
from cmav.media.clips import ClipOptions
from cmav.media.manifest import Manifest, ManifestError, Video
from cmav.media.streams import RejectedError
from cmav.media.video_track import resized
from cmav.prep import shards
from cmav.prep.dealing import auto_shards
from cmav.prep.plan_files import Unit

PREFIX = "tfds:"
FRAME_RATE = Fraction(25)


def read(dataset: str, data_dir: str | None, split: str | None, num_shards: int) -> Manifest:
    """Lists the videos of a prepared TFDS dataset, with labels where it has classes.

    Args:
      dataset: "tfds:ucf101/ucf101_1_256", for example.
      data_dir: where TFDS keeps its data; None: its default.
      split: the one to build, of those it has; None: all.
      num_shards: of each split; 0 chooses by the number of videos.

    Returns:
      A manifest whose root is the folder that TFDS prepared. Videos are in such an order that each shard gets
      neighbours, because TFDS reads from the front.

    Raises:
      ManifestError: where TFDS does not know it, it is not prepared, or holds no videos.
    """
    name = dataset.removeprefix(PREFIX)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise ManifestError(f"--dataset {dataset}: {str(error).strip().splitlines()[0]}") from error
    if not builder.is_prepared():
        where = f" --data_dir {data_dir}" if data_dir else ""
        raise ManifestError(
            f"--dataset {dataset} is not prepared in {builder.data_path}. To download and prepare it (its videos need "
            f"the program ffmpeg): tfds build {name}{where}"
        )
    video_key, label_key = _keys(builder.info)
    classes = tuple(builder.info.features[label_key].names) if label_key else ()
    names = [split] if split else list(builder.info.splits)
    if split and split not in builder.info.splits:
        raise ManifestError(f"{dataset} has no split {split!r}; it has {', '.join(builder.info.splits)}")
    splits = {}
    for name in names:
        labels = _labels(builder, name, label_key)
        videos = [
            Video(
                source=f"{PREFIX}{builder.info.full_name}/{name}/{number:06d}",
                name=f"{name}_{number:06d}",
                label=label,
                label_name=classes[label] if label >= 0 else "",
                num_bytes=0,
            )
            for number, label in enumerate(labels)
        ]
        splits[name] = _in_runs(videos, num_shards or auto_shards(len(videos)))
    note = (
        f"{dataset} ({video_key}): no sound; taken to have {FRAME_RATE} frames per second, of which TFDS says nothing"
    )
    return Manifest(str(builder.data_path), splits, classes, (note,))


def build(
    unit: Unit,
    *,
    alive: Callable[[], None] = lambda: None,
    begins: Callable[[int], None] = lambda video: None,
    skip: Mapping[int, str] | None = None,
) -> None:
    """Does a unit of work; as `shards.build`."""
    numbers = [_number(video) for video in unit.videos]
    builder = tfds.builder_from_directory(unit.root)
    video_key, _ = _keys(builder.info)
    examples = _examples(builder, f"{unit.split}[{numbers[0]}:{numbers[-1] + 1}]", video_key)
    numbered = zip(itertools.count(numbers[0]), examples, strict=False)

    def cutter(unit: Unit, video: Video, alive: Callable[[], None]) -> Iterator[schema.Clip]:
        for number, example in numbered:
            alive()
            if number == _number(video):  # those before it were skipped
                yield from _clips(video, example[video_key], unit.options, alive)
                return
        raise RejectedError("not in the prepared dataset, which is shorter than its metadata says")

    shards.build(unit, cutter=cutter, alive=alive, begins=begins, skip=skip)


def _clips(video: Video, encoded: np.ndarray, options: ClipOptions, alive: Callable[[], None]) -> Iterator[schema.Clip]:
    """Cuts clips: at each instant of the new frame rate, the picture that is on screen."""
    if not len(encoded):
        raise RejectedError("no frame of its video can be decoded (it holds none)")
    step = options.frame_rate / FRAME_RATE
    num_frames = math.ceil(len(encoded) * step)
    clip_frames = options.clip_frames or num_frames
    if num_frames < clip_frames:
        raise RejectedError(
            f"shorter than one clip of {float(options.clip_seconds):g} s ({len(encoded) / float(FRAME_RATE):g} s)"
        )
    reformatter = VideoReformatter()
    encoded_frame, jpeg = -1, b""
    for first in range(0, num_frames - clip_frames + 1, clip_frames):
        frames = []
        for frame in range(first, first + clip_frames):
            shown = int(frame / step)
            if shown != encoded_frame:
                alive()
                picture = tf.io.decode_image(encoded[shown], channels=3, expand_animations=False).numpy()
                picture = resized(reformatter, av.VideoFrame.from_ndarray(picture, "rgb24"), options.size)
                encoded_frame, jpeg = shown, tf.io.encode_jpeg(picture, quality=options.jpeg_quality).numpy()
            frames.append(jpeg)
        start = first / options.frame_rate
        yield schema.Clip(
            clip_id=f"{video.name}_{round(start * 1000)}",
            source=video.source,
            start_seconds=float(start),
            frames=frames,
            frame_rate=float(options.frame_rate),
            audio=np.zeros((options.first_sample(clip_frames), 2), np.int16),
            sample_rate=options.sample_rate,
            has_audio=False,
            label=video.label,
            label_name=video.label_name,
        )


def _keys(info: tfds.core.DatasetInfo) -> tuple[str, str | None]:
    """Names of the video feature and of the class, None where there is none."""
    videos = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.Video)]
    labels = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if not videos:
        raise ManifestError(f"the TFDS dataset {info.full_name} has no video (features: {', '.join(info.features)})")
    return videos[0], labels[0] if labels else None


def _labels(builder: tfds.core.DatasetBuilder, split: str, label_key: str | None) -> list[int]:
    if label_key is None:
        return [schema.NO_LABEL] * builder.info.splits[split].num_examples
    return [int(example[label_key]) for example in _examples(builder, split, label_key)]


def _examples(builder: tfds.core.DatasetBuilder, split: str, key: str) -> Iterator[dict[str, np.ndarray]]:
    """Reads one feature of the examples, in order; pictures stay encoded."""
    skip_decoding = isinstance(builder.info.features[key], tfds.features.Video)
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(
            {key: True}, decoders={key: tfds.decode.SkipDecoding()} if skip_decoding else None
        ),
        # One file after the other: by default examples of several are mixed.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=False, try_autocache=False),
    )
    return dataset.as_numpy_iterator()


def _in_runs(videos: list[Video], num_shards: int) -> list[Video]:
    """Orders videos such that a plan, which gives a shard every n-th of them, gives it neighbours."""
    runs = [list(run) for run in np.array_split(np.arange(len(videos)), num_shards)]
    dealt = itertools.chain.from_iterable(itertools.zip_longest(*runs))
    return [videos[number] for number in dealt if number is not None]


def _number(video: Video) -> int:
    return int(video.source.rpartition("/")[2])
