"""Accuracy of action recognition, video by video.

"Look, Listen, and Attend" (2020), section 5.1: 25 overlapping sub-clips with equal spacing, "average their outputs to
make a video-level prediction". A video's views (`config.action.eval_clips` times `eval_crops`; see
`cmav.tasks.action`) are put to the network one by one. What is averaged is their class probabilities, not the logits:
every view then has one vote in all, while a single view of extreme logits could outvote the other 24.
"""

import csv
import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cmav import distributed
from cmav.data.index import SplitIndex, load_classes
from cmav.data.pipeline import make_loader
from cmav.evals import figures
from cmav.evals.collect import collect
from cmav.evals.intervals import wilson_interval
from cmav.tasks.base import Classes

TOP_K = 5


@dataclasses.dataclass(frozen=True)
class ActionResult:
    """What the network says of each video that could be read. N videos, C classes."""

    probabilities_NxC: np.ndarray  # float32, the mean over the views
    labels_N: np.ndarray  # int64
    loss: float  # cross-entropy, the mean over all views

    @property
    def predictions_N(self) -> np.ndarray:
        return self.probabilities_NxC.argmax(axis=1)

    @property
    def top1(self) -> float:
        return float((self.predictions_N == self.labels_N).mean())

    @property
    def top5(self) -> float:
        """How often the true class is among the five most probable; of fewer classes, among all."""
        best_NxK = np.argsort(-self.probabilities_NxC, axis=1, kind="stable")[:, :TOP_K]
        return float((best_NxK == self.labels_N[:, None]).any(axis=1).mean())

    @property
    def mean_class_accuracy(self) -> float:
        """The mean of the classes' accuracies, each class counting once; of the classes that occur."""
        confusion_CxC = self.confusion_CxC
        videos_C = confusion_CxC.sum(axis=1)
        occurs_C = videos_C > 0
        return float((np.diag(confusion_CxC)[occurs_C] / videos_C[occurs_C]).mean())

    @property
    def confusion_CxC(self) -> np.ndarray:
        """Numbers of videos, int64. Rows are the true classes, columns the predicted ones."""
        num_classes = self.probabilities_NxC.shape[1]
        confusion_CxC = np.zeros((num_classes, num_classes), np.int64)
        np.add.at(confusion_CxC, (self.labels_N, self.predictions_N), 1)
        return confusion_CxC


class ActionEvaluator:
    """Runs a network over all views of a split's videos.

    `run` yields `top1` and the ends of its 95% interval, `top5`, `mean_class_accuracy`, `clip_loss` (cross-entropy of
    single views, as in training), `videos` (how many were judged) and, of an official split, `videos_listed`. A video
    of which a view cannot be read is not judged at all. Where fewer are judged than there should be, it is logged.
    """

    needs, needs_head = Classes, True
    settings = ("every", "batch_size")

    def __init__(self, config: ConfigDict, data: ConfigDict, task: Classes, mesh: Mesh, split: str):
        distributed.local_rows(config.batch_size, mesh)
        self._config, self._mesh, self._split, self._num_views = config, mesh, split, task.num_views
        self._index = SplitIndex.load(data.dir, split)
        self._loader = make_loader(self._index, task, data, train=False)
        self._answer = jax.jit(functools.partial(_answer, task=task), out_shardings=distributed.replicated(mesh))
        self._names = _class_names(data.dir, task.num_classes)
        self._result: ActionResult | None = None

    def answer(self, state: Any) -> ActionResult:
        """Asks the network about every view of every video."""
        joined = collect(
            self._answer,
            {"params": state.params, **state.model_state},
            self._loader,
            self._mesh,
            batch_size=self._config.batch_size,
            views=self._num_views,
        )
        whole = joined["mask"].all(axis=1)
        return ActionResult(
            joined["probabilities"][whole].mean(axis=1), joined["label"][whole, 0], float(joined["loss"][whole].mean())
        )

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        self._result = result = self.answer(state)
        videos = len(result.labels_N)
        self._warn_of_missing(videos)
        low, high = wilson_interval(result.top1, videos)
        yield "top1", result.top1
        yield "top1_low", low
        yield "top1_high", high
        yield "top5", result.top5
        yield "mean_class_accuracy", result.mean_class_accuracy
        yield "clip_loss", result.loss
        yield "videos", videos
        if self._index.num_listed is not None:
            yield "videos_listed", self._index.num_listed

    def per_class(self, result: ActionResult) -> list[dict[str, Any]]:
        """A row for each class that occurs, in the order of the classes.

        `label`, `class`, `videos`, `accuracy`, the ends `low` and `high` of its 95% interval, and `predicted`: numbers
        of videos by the class that the network said, most frequent first.
        """
        rows = []
        for label, predicted_C in enumerate(result.confusion_CxC):
            videos = int(predicted_C.sum())
            if not videos:
                continue
            accuracy = float(predicted_C[label] / videos)
            low, high = wilson_interval(accuracy, videos)
            order = [int(other) for other in np.argsort(-predicted_C, kind="stable") if predicted_C[other]]
            row = {"label": label, "class": self._names[label], "videos": videos, "accuracy": accuracy}
            predicted = {self._names[other]: int(predicted_C[other]) for other in order}
            rows.append({**row, "low": low, "high": high, "predicted": predicted})
        return rows

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """`action_<split>_confusion.png`, and `action_<split>_per_class.json` and `.csv`."""
        result, rows = self._result, self.per_class(self._result)
        stem = f"action_{self._split}"
        picture, full, table = (
            folder / f"{stem}_{end}" for end in ("confusion.png", "per_class.json", "per_class.csv")
        )
        title = f"{self._split}: top-1 {result.top1:.1%} of {len(result.labels_N)} videos"
        figures.save_confusion(result.confusion_CxC, self._names, title, picture)
        full.write_text(json.dumps(rows, indent=2))
        with table.open("w") as file:
            _write_table(rows, file)
        return [picture, full, table]

    def _warn_of_missing(self, judged: int) -> None:
        """A number on fewer videos than the split has is another number: never without a word."""
        index = self._index
        expected = len(index) if index.num_listed is None else index.num_listed
        if judged >= expected:
            return
        logging.warning(
            "%d of the %d videos of split %r were judged, and the accuracy is of these alone: %d are not in %s "
            "(rejects.csv there says why), %d have no label or not the streams that are looked at, %d are damaged.",
            *(judged, expected, self._split, expected - len(index), index.folder),
            *(len(index) - len(self._loader.records), len(self._loader.records) - judged),
        )


def panels(task: Classes, config: ConfigDict) -> tuple[figures.Panel, ...]:
    """What to draw of a run."""
    del config
    num_classes = task.num_classes
    return (
        figures.Panel("Cross-entropy of a clip", train="loss", held_out="clip_loss", chance=math.log(num_classes)),
        figures.Panel(
            "Accuracy: clips in training, videos held out",
            train="accuracy",
            held_out="top1",
            chance=1 / num_classes,
            limits=(0, 1.01),
        ),
    )


def _answer(variables: Any, batch: dict[str, jax.Array], *, task: Classes) -> dict[str, jax.Array]:
    outputs, _ = task.apply(variables, batch, train=False)
    return {
        "probabilities": jax.nn.softmax(outputs["logits"]),
        "loss": optax.softmax_cross_entropy(outputs["logits"], outputs["targets"]),
        "label": batch["label"],
        "mask": batch["mask"],
    }


def _class_names(folder: str, num_classes: int) -> list[str]:
    """The names by number, of the dataset's `classes.txt`; the numbers where it has none."""
    names = load_classes(folder)[:num_classes]
    return [*names, *(str(label) for label in range(len(names), num_classes))]


def _write_table(rows: list[dict[str, Any]], file: Any) -> None:
    """The rows of `per_class` as CSV: of what was predicted, only the most frequent confusion."""
    columns = ["label", "class", "videos", "accuracy", "low", "high", "confused_with", "confused_videos"]
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        confusions = [(name, videos) for name, videos in row["predicted"].items() if name != row["class"]]
        name, videos = confusions[0] if confusions else ("", 0)
        numbers = {key: f"{row[key]:.4f}" for key in ("accuracy", "low", "high")}
        writer.writerow({**row, **numbers, "confused_with": name, "confused_videos": videos})
