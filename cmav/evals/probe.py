"""Frozen-feature probe: how much do a network's features tell, before anything is fine-tuned?

Features of every view of every video, from one layer or several, and a linear SVM on them (`cmav.evals.svm`). The views
are those of an evaluation of the action task, of training videos too: evenly spaced clips, no augmentation.

Either there is one training and one test split, or `folds`: each fold is tested with what was trained on the others.
The SVM's C is always chosen on the training side alone.
"""

import functools
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict
from sklearn.metrics import balanced_accuracy_score

from cmav import distributed
from cmav.data.index import SplitIndex
from cmav.data.pipeline import Loader
from cmav.errors import UserError
from cmav.evals.collect import collect
from cmav.evals.intervals import wilson_interval
from cmav.evals.svm import Features, LinearProbe, check_classes
from cmav.tasks import features
from cmav.tasks.base import Classes

TOP_K = 5


class ProbeEvaluator:
    """Fits a linear SVM to a network's features of one split and judges it by another.

    `config` has `layers` (put side by side; see `cmav.tasks.features`), `cs` (values of C to choose from), `folds`
    (official splits, or none) and `batch_size`. `run` yields `top1` and the ends of its 95% interval, `top5`,
    `mean_class_accuracy`, `C`, `videos` (judged), `videos_listed` (by the official list, where there is one) and
    `train_videos`. With folds it yields `<fold>/…` of each, and their means under the plain names.

    Raises:
      UserError: where the task has no views or layers of that name, splits are missing, training and test share videos,
        or the training videos are of a single class.
    """

    needs, needs_head = Classes, False
    settings = ("every", "batch_size", "layers", "cs", "folds")

    def __init__(self, config: ConfigDict, data: ConfigDict, task: Classes, mesh: Mesh, split: str):
        distributed.local_rows(config.batch_size, mesh)
        if not config.cs or min(config.cs) <= 0:
            raise UserError(f"cs={config.cs!r} must be at least one value of the SVM's C, each greater than 0.")
        self._config, self._data, self._task, self._mesh = config, data, task, mesh
        self._split, self._folds = split, tuple(config.folds)
        if self._folds:
            self._check_folds()
        self._layers = features.find_layers(config.layers, task, "layers of the probe in config.evals")
        self._answer = jax.jit(
            functools.partial(_answer, task=task, layers=self._layers), out_shardings=distributed.replicated(mesh)
        )
        if self._folds:
            self._loaders = {fold: self._loader(fold, train=False) for fold in self._folds}
        else:
            self._loaders = {split: self._loader(split, train=False)}
            self._train_loader = self._loader(data.train_split, train=True)
            _check_disjoint(self._train_loader, self._loaders[split])
        loaders = self._loaders.values() if self._folds else [self._train_loader]
        check_classes(np.concatenate([loader.index.rows["label"][loader.records] for loader in loaders]))
        self._reports: dict[str, dict[str, Any]] = {}

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        seen = {split: self._features(state, loader) for split, loader in self._loaders.items()}
        if not self._folds:
            train = self._features(state, self._train_loader)
            yield from self._judge(self._split, train, seen[self._split]).items()
            return
        tested = (self._split,) if self._split in self._folds else self._folds
        results = []
        for fold in tested:
            train = Features.join([seen[other] for other in self._folds if other != fold])
            results.append(self._judge(fold, train, seen[fold]))
            yield from ((f"{fold}/{key}", value) for key, value in results[-1].items())
        for key in ("top1", "top5", "mean_class_accuracy"):
            yield key, float(np.mean([result[key] for result in results]))
        videos = sum(result["videos"] for result in results)
        right = sum(result["top1"] * result["videos"] for result in results)
        low, high = wilson_interval(right / videos, videos)
        yield "top1_low", low
        yield "top1_high", high
        yield "videos", videos

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """`probe_<split>.json` of each split that was tested: the layers, C, and the accuracy of each class."""
        paths = []
        for split, report in self._reports.items():
            paths.append(folder / f"probe_{split}.json")
            paths[-1].write_text(json.dumps(report, indent=2))
        return paths

    def _loader(self, split: str, *, train: bool) -> Loader:
        """Of the views of an evaluation, whatever the videos are for."""
        index = SplitIndex.load(self._data.dir, split)
        make_example = functools.partial(self._task.make_example, train=False)
        records = self._task.usable_records(index, train=train)
        return Loader.of(index, make_example, records, self._data, make_views=self._task.make_views)

    def _features(self, state: Any, loader: Loader) -> Features:
        joined = collect(
            self._answer,
            {"params": state.params, **state.model_state},
            loader,
            self._mesh,
            batch_size=self._config.batch_size,
            views=self._task.num_views,
        )
        whole = joined["mask"].all(axis=1)
        return Features(joined["features"][whole], joined["label"][whole, 0])

    def _judge(self, split: str, train: Features, test: Features) -> dict[str, float]:
        index = self._loaders[split].index
        self._warn_of_missing(index, len(test))
        probe = LinearProbe.fit(train, self._config.cs)
        scores_NxC = probe.scores(test.values_NxVxF, self._task.num_classes)
        best_NxK = np.argsort(-scores_NxC, axis=1, kind="stable")[:, :TOP_K]
        right_NxK = best_NxK == test.labels_N[:, None]
        top1 = float(right_NxK[:, 0].mean())
        low, high = wilson_interval(top1, len(test))
        self._reports[split] = {
            "layers": self._layers,
            "C": probe.c,
            "per_class": [
                {
                    "label_name": index.label_name(int(label)),
                    "videos": int((test.labels_N == label).sum()),
                    "accuracy": float(right_NxK[test.labels_N == label, 0].mean()),
                }
                for label in np.unique(test.labels_N)
            ],
        }
        return {
            "top1": top1,
            "top1_low": low,
            "top1_high": high,
            "top5": float(right_NxK.any(axis=1).mean()),
            "mean_class_accuracy": float(balanced_accuracy_score(test.labels_N, best_NxK[:, 0])),
            "C": probe.c,
            "videos": len(test),
            **({} if index.num_listed is None else {"videos_listed": index.num_listed}),
            "train_videos": len(train),
        }

    def _check_folds(self) -> None:
        if len(self._folds) < 2:
            raise UserError(
                f"folds={self._folds} of the probe in config.evals: at least two, or () for one training split."
            )
        drawn = {"action.videos_per_class": self._task.videos_per_class, "data.max_videos": self._data.max_videos}
        for key, count in drawn.items():
            if count:
                raise UserError(f"config.{key} draws from one training split: not together with folds.")

    def _warn_of_missing(self, index: SplitIndex, judged: int) -> None:
        expected = len(index) if index.num_listed is None else index.num_listed
        if judged < expected:
            logging.warning(
                "%d of the %d videos of split %r were judged, and the accuracy is of these alone; rejects.csv in %s "
                "says why others are not there.",
                *(judged, expected, index.split, index.folder),
            )


def _check_disjoint(train: Loader, test: Loader) -> None:
    """Official splits overlap where their numbers differ: train2 has videos of test1."""
    if train.index.physical_split != test.index.physical_split:
        return
    places = [loader.index.rows[["shard", "offset"]][loader.records] for loader in (train, test)]
    shared = np.intersect1d(*places)
    if len(shared):
        raise UserError(
            f"the training split {train.index.split!r} and the test split {test.index.split!r} share {len(shared)} "
            "videos: choose others (config.data.train_split, config.data.eval_split)."
        )


def _answer(
    variables: Any, batch: dict[str, jax.Array], *, task: Classes, layers: tuple[str, ...]
) -> dict[str, jax.Array]:
    found = features.compute(task, variables, batch, layers)
    return {"features": found, "label": batch["label"], "mask": batch["mask"]}
