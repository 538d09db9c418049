"""By how much is the sound off? On held-out clips whose sound was shifted by amounts that are known.

Of each clip a part is cut whose pictures begin earlier or later than its sound, as somebody's editing program might
have done it, so that what sticks out is gone on both sides: the network finds the offset as in a file. The offsets are
spread over the range and drawn to the sample, the same ones for all clips. Half of the clips calibrate (`cmav.offsets.
calibration`) what is said of the other half, and the other way round, so that nothing is judged by what it was fitted
to; the calibration that is kept is of all.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from absl import logging
from etils import epath
from jax.sharding import Mesh
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cmav import distributed
from cmav.data import checks
from cmav.data.index import SplitIndex
from cmav.data.pipeline import Loader
from cmav.errors import UserError
from cmav.evals import figures
from cmav.evals.collect import collect
from cmav.evals.intervals import wilson_interval
from cmav.offsets.calibration import Calibration, fit
from cmav.offsets.estimate import Reading, read
from cmav.offsets.evidence import Evidence, Scores
from cmav.offsets.stretch import Stretch
from cmav.tasks.base import Offsets

GROUP = 4  # clips that are also looked at as if they were one video
SURE = 0.9
_SHORTEST = 0.05  # of the clips, the share that may be too short to take part
_BINS = np.array([0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])


@dataclasses.dataclass(frozen=True)
class Judged:
    """Readings of N examples beside the truth.

    Attributes:
      truths: float64 [N], offsets in seconds.
      readings: of each.
      tolerance: seconds; a frame.
    """

    truths: np.ndarray
    readings: Sequence[Reading]
    tolerance: float

    @property
    def errors(self) -> np.ndarray:
        """float64 [N], seconds; positive: said later than it is."""
        return np.array([reading.peak for reading in self.readings]) - self.truths

    @property
    def confidences(self) -> np.ndarray:
        return np.array([reading.confidence for reading in self.readings])

    def within(self, frames: int) -> np.ndarray:
        """bool [N]: whether the error is at most so many frames."""
        return np.abs(self.errors) <= frames * self.tolerance + 1e-9

    def numbers(self) -> dict[str, float]:
        """See `OffsetEvaluator`. NaN where there is nothing of which it would be."""
        right, confidences = self.within(1), self.confidences
        said = np.array([not reading.doubt() for reading in self.readings])
        sure = confidences >= SURE
        intervals = np.array([reading.posterior.interval() for reading in self.readings])
        covered = (intervals[:, 0] <= self.truths) & (self.truths <= intervals[:, 1])
        return {
            "median_error_ms": 1000 * float(np.median(np.abs(self.errors))),
            "mean_error_ms": 1000 * float(np.mean(np.abs(self.errors))),
            "within_1_frame": float(right.mean()),
            "within_2_frames": float(self.within(2).mean()),
            "said": float(said.mean()),
            "right_of_said": _mean(right[said]),
            "sure": float(sure.mean()),
            "right_of_sure": _mean(right[sure]),
            "in_interval_95": float(covered.mean()),
            "calibration_error": sum(abs(bin["said"] - bin["right"]) * bin["share"] for bin in self.bins()),
        }

    def bins(self) -> list[dict[str, float]]:
        """By confidence: `share` of the examples, the mean of what was `said`, and of what was `right`."""
        right, confidences = self.within(1), self.confidences
        numbers = np.clip(np.digitize(confidences, _BINS) - 1, 0, len(_BINS) - 2)
        return [
            {
                "share": float(np.mean(numbers == number)),
                "said": float(confidences[numbers == number].mean()),
                "right": float(right[numbers == number].mean()),
            }
            for number in np.unique(numbers)
        ]


class OffsetEvaluator:
    """Finds the offsets of clips whose sound was shifted by up to `config.max_seconds`.

    `run` yields of `clips` times `config.shifts` examples, in each of which the best shift is taken, however unsure:
    `median_error_ms`, `mean_error_ms`, `within_1_frame` with the ends of its 95% interval (over clips), and
    `within_2_frames`; frames of the network's rate. Then, of what it would say: `said`, the share in which it does not
    abstain, `right_of_said` (within a frame), `sure`, said with 90% or more, `right_of_sure`, `in_interval_95`, and
    `calibration_error`, the mean difference of what is said and what is right. `unrelated_said` is the share in which
    it says an offset of pictures with the sound of another clip. Names that end with `_of_4` are of four clips taken
    for one video. The calibration goes to the run's folder with the report.
    """

    needs, needs_head = Offsets, True
    settings = ("every", "batch_size", "max_seconds", "shifts", "seed")

    def __init__(self, config: ConfigDict, data: ConfigDict, task: Offsets, mesh: Mesh, split: str):
        distributed.local_rows(config.batch_size, mesh)
        if config.batch_size % config.shifts or config.batch_size < 2 * config.shifts:
            raise UserError(
                f"batch_size={config.batch_size} must be a multiple of shifts={config.shifts}, at least twice as much."
            )
        self._config, self._mesh, self._split, self._task = config, mesh, split, task
        index = SplitIndex.load(data.dir, split)
        clip = task.clip
        checks.check_dataset(index, clip, data.crop_size)
        shortest = (clip.stored_frames + 2) / clip.stored_frame_rate
        records = checks.usable_records(index, min_seconds=shortest, need_audio=True)
        seconds = index.rows["seconds"][records]
        length = float(np.quantile(seconds, _SHORTEST, method="lower"))
        records = records[seconds >= length]
        if len(records) < 2:
            raise UserError(f"split {split!r} has a single clip: of two, one calibrates what is said of the other.")
        num_frames = math.floor(length * clip.stored_frame_rate + 1e-3)
        wanted = math.floor(config.max_seconds * clip.stored_frame_rate + 1e-6)
        self._range = min(wanted, (num_frames - clip.stored_frames) // 2)  # frames to either side
        if self._range < wanted:
            logging.info(
                "evaluator 'offset': clips of %.3g s leave room for offsets of up to %.3g s",
                *(length, self._range / clip.stored_frame_rate),
            )
        self._stretch = Stretch.of(
            task, max_seconds=self._range / clip.stored_frame_rate, num_frames=num_frames - self._range
        )
        self._late = _spread(self._range / clip.stored_frame_rate, config.shifts, config.seed, clip.sample_rate)
        self._loader = Loader.of(index, self._make_example, records, data)
        self._answer = jax.jit(
            functools.partial(_answer, stretch=self._stretch, shifts=config.shifts),
            out_shardings=distributed.replicated(mesh),
        )
        self._step = 0
        self._report: dict[str, Any] = {}
        self._calibration: Calibration | None = None
        self._judged: Judged | None = None

    def _make_example(self, record: Mapping[str, Any], seed: Any, view: Any) -> dict[str, Any]:
        """TensorFlow: the pictures of a part of a record, and its sound, late by the `view`-th of the offsets."""
        del seed
        rate, sample_rate = self._task.clip.stored_frame_rate, self._task.clip.sample_rate
        late = tf.constant(self._late, tf.int32)[view]
        # An event is in a file by as much earlier as the file begins later: pictures that begin late make late sound.
        first = [round((self._range + one * rate / sample_rate) / 2) for one in self._late.tolist()]
        frame = tf.constant(first, tf.int32)[view]
        first_samples = tf.constant([self._stretch.first_sample(one) for one in first], tf.int32)
        start = tf.maximum(first_samples[view] - late, 0)
        example = self._stretch.make(record["frames"][frame:], record["audio"][start:])
        return {**example, "late": late, "clip_id": record["clip_id"]}

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        self._step, config = int(state.step), self._config
        variables = {"params": state.params, **state.model_state}
        sizes = {"batch_size": config.batch_size, "views": config.shifts}
        found = collect(self._answer, variables, self._loader, self._mesh, **sizes)
        whole = (found["mask"] > 0).all(axis=1)
        truths = found["late"][whole] / self._task.clip.sample_rate
        related = self._evidence(found["logits"][whole])
        partnered = whole & (found["partner"] > 0).all(axis=1)
        unrelated = [row[0] for row in self._evidence(found["others"][partnered])]
        unrelated_clips = np.cumsum(whole)[partnered] - 1
        if len(unrelated) < 2:
            raise UserError("too few clips can be read to calibrate what is said of them.")

        tolerance = 1 / self._task.clip.achieved_frame_rate
        readings, group_readings, unrelated_said = {}, {}, []
        for fold in (0, 1):
            clips = [clip for clip in range(len(related)) if clip % 2 == fold]
            others = [clip for clip in range(len(related)) if clip % 2 != fold]
            wrong = [one for one, clip in zip(unrelated, unrelated_clips, strict=True) if clip % 2 != fold]
            calibration = fit(_examples(related, truths, others), wrong or unrelated)
            readings |= {clip: [read(one, calibration, tolerance) for one in related[clip]] for clip in clips}
            group_readings |= {
                group: [read(one, calibration, tolerance) for one in joined]
                for group, joined in _groups(related, clips).items()
            }
            unrelated_said += [
                not read(one, calibration, tolerance).doubt()
                for one, clip in zip(unrelated, unrelated_clips, strict=True)
                if clip % 2 == fold
            ]
        everyone = range(len(related))
        fitted_on = {
            "step": self._step,
            "split": self._split,
            "clips": len(related),
            "max_seconds": self._range / self._task.clip.stored_frame_rate,
            "step_seconds": self._stretch.step_seconds,
            "hop_seconds": self._stretch.hop / self._task.clip.stored_frame_rate,
            "tolerance_seconds": tolerance,
        }
        self._calibration = dataclasses.replace(
            fit(_examples(related, truths, everyone), unrelated), fitted_on=fitted_on
        )
        self._judged = judged = Judged(
            truths.reshape(-1), [one for clip in everyone for one in readings[clip]], tolerance
        )
        metrics = judged.numbers()
        right = metrics["within_1_frame"]
        metrics["within_1_frame_low"], metrics["within_1_frame_high"] = wilson_interval(right, len(related))
        metrics["unrelated_said"] = float(np.mean(unrelated_said))
        if group_readings:
            together = Judged(
                np.concatenate([truths[group[0]] for group in group_readings]),
                [one for rows in group_readings.values() for one in rows],
                tolerance,
            ).numbers()
            metrics |= {f"{name}_of_{GROUP}": value for name, value in together.items()}
        metrics = {name: value for name, value in metrics.items() if not math.isnan(value)}
        self._report = {**fitted_on, "metrics": metrics, "confidence": judged.bins()}
        yield from metrics.items()
        yield "clips", len(related)

    def _evidence(self, logits_NxVxWxS: np.ndarray) -> list[list[Evidence]]:
        """Of each clip and each of its offsets."""
        rate = self._task.clip.stored_frame_rate
        starts, shifts, seconds = self._stretch.starts / rate, self._stretch.shifts, self._stretch.span / rate
        nothing = np.zeros(len(starts))
        return [
            [Evidence.of(Scores(starts, seconds, shifts, logits, nothing, nothing)) for logits in row]
            for row in logits_NxVxWxS
        ]

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """`offset_calibration.json`, which `python -m cmav.sync` reads; `offset_<split>.json`, numbers, and `.png`."""
        table, picture = (folder / f"offset_{self._split}.{suffix}" for suffix in ("json", "png"))
        table.write_text(json.dumps(self._report, indent=2))
        draw(self._judged, picture)
        return [self._calibration.save(folder), table, picture]


def draw(judged: Judged, path: epath.Path) -> None:
    """The errors, and how often what was said with some confidence was right, as a PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    frame_ms = 1000 * judged.tolerance
    errors = 1000 * judged.errors
    widest = max(np.abs(errors).max(), 3 * frame_ms)
    left.hist(errors, bins=np.arange(-widest - frame_ms / 4, widest + frame_ms, frame_ms / 2), color="tab:blue")
    left.axvspan(-frame_ms, frame_ms, color="grey", alpha=0.2, label="within one frame")
    left.set(title="Error of the offset", xlabel="what was said minus what is true (ms)", ylabel="shifted clips")
    bins = judged.bins()
    said, share_right = ([one[key] for one in bins] for key in ("said", "right"))
    right.plot([0, 1], [0, 1], color="grey", linestyle=":", label="as it should be")
    right.scatter(said, share_right, s=[20 + 600 * one["share"] for one in bins], color="tab:orange", alpha=0.8)
    right.set(title="How often it was right", xlabel="confidence", ylabel="right within one frame")
    right.set(xlim=(0, 1.02), ylim=(0, 1.02))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)


def _spread(most: float, count: int, seed: int, sample_rate: int) -> np.ndarray:
    """Offsets in samples, one drawn from each of `count` equal parts of the range: int64 [count]."""
    edges = np.linspace(-most, most, count + 1)
    drawn = np.random.default_rng(seed % 2**64).uniform(edges[:-1], edges[1:])
    return np.round(drawn * sample_rate).astype(int)


def _groups(related: Sequence[Sequence[Evidence]], clips: Sequence[int]) -> dict[tuple[int, ...], list[Evidence]]:
    """Clips taken four by four for one video: by their numbers, the evidence of each offset."""
    groups = [tuple(clips[first : first + GROUP]) for first in range(0, len(clips) - GROUP + 1, GROUP)]
    return {
        group: [Evidence.joined(several) for several in zip(*(related[clip] for clip in group), strict=True)]
        for group in groups
    }


def _examples(
    related: Sequence[Sequence[Evidence]], truths_NxV: np.ndarray, clips: Sequence[int]
) -> list[tuple[Evidence, float]]:
    """Clips by themselves and four by four, with the true offsets."""
    examples = [pair for clip in clips for pair in zip(related[clip], truths_NxV[clip], strict=True)]
    for group, joined in _groups(related, clips).items():
        examples += zip(joined, truths_NxV[group[0]], strict=True)
    return examples


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _answer(variables: Any, batch: Mapping[str, jax.Array], *, stretch: Stretch, shifts: int) -> dict[str, jax.Array]:
    """Logits of a batch that has `shifts` rows of each clip, and of clips with the sound of another."""
    logits = stretch.scores(variables, batch)["logits"]
    first = {key: batch[key][::shifts] for key in ("video", "audio", "num_frames", "mask")}
    others = stretch.scores(variables, {**first, "audio": jnp.roll(first["audio"], 1, axis=0)})["logits"]
    partner = first["mask"] * jnp.roll(first["mask"], 1)
    return {
        "logits": logits,
        "others": others.repeat(shifts, axis=0),
        "partner": partner.repeat(shifts),
        "late": batch["late"],
        "mask": batch["mask"],
    }
