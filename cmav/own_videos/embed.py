"""Features of videos that need no shards, in one file. `python -m cmav.embed` is the command."""

import dataclasses
import functools
import itertools
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from cmav.errors import UserError
from cmav.media import manifest, windows
from cmav.own_videos.feature_file import FeatureFile, Part, Row, write_failures
from cmav.own_videos.watch import Seen, picture_size, watch
from cmav.tasks import features
from cmav.training import frozen

SAVE_SECONDS = 60.0  # between two savings


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of the videos.

    Attributes:
      num_new: how many are new in the file.
      num_there: how many were in it already.
      failures: those that gave nothing, and why.
    """

    num_new: int
    num_there: int
    failures: list[tuple[Part, str]]


def embed(
    videos: str,
    checkpoint: str,
    out: str,
    *,
    layers: Sequence[str] = ("features",),
    per_second: bool = False,
    batch_size: int = 8,
    size: int | None = None,
    num_workers: int | None = None,
) -> Result:
    """Writes the features of videos to a file. `cmav.embed` says which, and what is in it.

    Args:
      videos: a folder, walked to its depth, or a CSV as `cmav.media.manifest.read_csv` describes it, of any splits.
      checkpoint: as `cmav.training.frozen.load` takes it.
      out: the .npz file, local. What is in it already is not made again.
      layers: of the network, put side by side; see `cmav.tasks.features`.
      per_second: a row for each second, instead of one for each video.
      batch_size: windows that the network sees at a time.
      size: to which pictures are brought before the central crop, in pixels; None: as much larger than the crop as 256
        is than 224. Best is what the network's shards were built with.
      num_workers: processes that decode, each another video; None: one for each CPU core.

    Raises:
      UserError: where videos, checkpoint or layers are not there, or `out` was made with something else, or storage
        does not answer.
    """
    if "://" in out:
        raise UserError(f"--out={out} must be a local file.")
    listed = manifest.read(videos, None)
    network = frozen.load_to_embed(checkpoint)
    task = network.task
    layers = features.find_layers(layers, task, "--layer")
    size = picture_size(size, task.data_config.crop_size)
    file = FeatureFile(out, _metadata(network, layers, size, per_second), origin=("run", "step"))

    wanted = {
        (video.path(listed.root), video.start, video.end): video
        for video in itertools.chain.from_iterable(listed.splits.values())
    }
    todo = {part: video for part, video in wanted.items() if part not in file.parts}
    logging.info(
        "%d videos, %d of them in %s already; layer %s of step %d of %s",
        *(len(wanted), len(wanted) - len(todo), out, ", ".join(layers), network.step, network.run),
    )

    spacing = windows.Spacing.every_second if per_second else windows.Spacing.side_by_side
    seen_videos = watch(
        network,
        todo.values(),
        listed.root,
        functools.partial(_answer, task=task, layers=layers),
        size=size,
        spacing=spacing(task.clip),
        batch_size=batch_size,
        num_workers=num_workers,
    )
    make_rows = _second_rows if per_second else _video_rows
    failures = []
    saved = time.monotonic()
    try:
        progress = tqdm(seen_videos, total=len(todo), unit="video", disable=not todo)
        for (part, video), seen in zip(todo.items(), progress, strict=True):
            if seen.windows:
                file.add(make_rows(part, video.label_name, seen))
            else:
                failures.append((part, seen.note))
            if time.monotonic() - saved > SAVE_SECONDS:
                file.save()
                saved = time.monotonic()
    finally:
        file.finish()
        write_failures(f"{out}.failed.csv", failures)
    return Result(len(todo) - len(failures), len(wanted) - len(todo), failures)


def _metadata(network: frozen.FrozenNetwork, layers: Sequence[str], size: int, per_second: bool) -> dict[str, Any]:
    task = network.task
    return {
        "run": network.run if "://" in network.run else os.path.abspath(network.run),
        "step": network.step,
        "weights": network.checksum(),
        "mode": task.mode,
        "layers": list(layers),
        "rows": "seconds" if per_second else "videos",
        "clip_seconds": task.clip.seconds,
        "frame_rate": task.clip.achieved_frame_rate,
        "sample_rate": task.clip.sample_rate,
        "size": size,
        "crop_size": task.data_config.crop_size,
    }


def _video_rows(part: Part, label: str, seen: Seen) -> list[Row]:
    path, start, end = part
    first, last = seen.windows[0], seen.windows[-1]
    mean = np.mean(seen.answers, axis=0, dtype=np.float64).astype(np.float32)
    middle = (first.start + last.end) / 2
    return [Row(path, start, math.nan if end is None else end, middle, first.has_audio, label, seen.note, mean)]


def _second_rows(part: Part, label: str, seen: Seen) -> list[Row]:
    path, start, end = part
    end = math.nan if end is None else end
    return [
        Row(path, start, end, start + second + 0.5, window.has_audio, label, seen.note, vector)
        for second, (window, vector) in enumerate(zip(seen.windows, seen.answers, strict=True))
    ]


def _answer(variables: Any, batch: Mapping[str, jax.Array], *, task: Any, layers: tuple[str, ...]) -> jax.Array:
    return features.compute(task, variables, batch, layers)
