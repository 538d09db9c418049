"""Accuracy of the pretext task: does the network tell aligned from shifted, on held-out clips?

Or, where `negatives` is "other", a clip's own sound from that of another video: audio-visual correspondence. The pairs
are fixed: which window of a clip and which shift, or which video, is a function of (`seed`, clip, repetition) and the
split alone, so that two checkpoints, or two networks, answer the same questions. "Look, Listen, and Attend" (2020),
Table 1 and Figure 4.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cmav import distributed
from cmav.data.index import SplitIndex
from cmav.data.pipeline import make_loader
from cmav.evals import figures
from cmav.evals.collect import collect
from cmav.evals.intervals import wilson_interval
from cmav.tasks.base import Pairs
from cmav.tasks.losses import balanced, is_correct


@dataclasses.dataclass(frozen=True)
class PretextResult:
    """The answers. Rows are clips (times `pairs_per_clip`), columns are (aligned, negative).

    Where a clip has several negatives, the mean of them stands in their column.
    """

    correct_Nx2: np.ndarray  # float32, 1 where the network was right
    loss_Nx2: np.ndarray  # float32, cross-entropy
    labels_N: np.ndarray  # int64, the clip's class or -1
    pairs_per_clip: int

    @property
    def num_clips(self) -> int:
        return len(self.correct_Nx2) // self.pairs_per_clip


class PretextEvaluator:
    """Runs a network over the fixed pairs of a split.

    `run` yields `avs_accuracy` and the ends of its 95% interval, the accuracies on aligned and on shifted pairs, and
    the loss. The interval counts clips, not decisions: those about one clip are not independent. With negatives of
    another video these are `avc_accuracy`, …, `avc_accuracy_other` and `avc_clips`.
    """

    needs, needs_head = Pairs, True
    settings = ("every", "batch_size", "pairs_per_clip", "negatives", "seed")

    def __init__(self, config: ConfigDict, data: ConfigDict, task: Pairs, mesh: Mesh, split: str):
        distributed.local_rows(config.batch_size, mesh)
        task = task.with_negatives(config.negatives)
        self._config, self._mesh, self._split = config, mesh, split
        self._index = SplitIndex.load(data.dir, split)
        self._loader = make_loader(self._index, task, data, train=False)
        self._answer = jax.jit(functools.partial(_answer, task=task), out_shardings=distributed.replicated(mesh))
        self._result: PretextResult | None = None

    def answer(self, state: Any) -> PretextResult:
        """Asks the network about every pair."""
        config = self._config
        joined = collect(
            self._answer,
            {"params": state.params, **state.model_state},
            self._loader,
            self._mesh,
            batch_size=config.batch_size,
            views=config.pairs_per_clip,
            seed=config.seed,
        )
        real = joined["mask"] > 0
        return PretextResult(
            joined["correct"][real], joined["loss"][real], joined["label"][real], config.pairs_per_clip
        )

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        self._result = result = self.answer(state)
        accuracy = float(result.correct_Nx2.mean())
        low, high = wilson_interval(accuracy, result.num_clips)
        aligned, negative = result.correct_Nx2.mean(axis=0)
        kind = _KINDS[self._config.negatives]
        yield f"{kind.name}_accuracy", accuracy
        yield f"{kind.name}_accuracy_low", low
        yield f"{kind.name}_accuracy_high", high
        yield f"{kind.name}_accuracy_aligned", float(aligned)
        yield f"{kind.name}_accuracy_{self._config.negatives}", float(negative)
        yield f"{kind.name}_loss", float(result.loss_Nx2.mean())
        yield kind.count, result.num_clips

    def per_label(self, result: PretextResult) -> list[dict[str, Any]]:
        """Accuracy by class, best first: one dict a class, `label_name`, `clips`, `accuracy`, `low`, `high`."""
        rows = []
        for label in np.unique(result.labels_N[result.labels_N >= 0]):
            correct = result.correct_Nx2[result.labels_N == label]
            clips = len(correct) // result.pairs_per_clip
            low, high = wilson_interval(float(correct.mean()), clips)
            row = {"label_name": self._index.label_name(int(label)), "clips": clips, "accuracy": float(correct.mean())}
            rows.append({**row, "low": low, "high": high})
        return sorted(rows, key=lambda row: (-row["accuracy"], row["label_name"]))

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """Where the split has labels: `pretext_<split>_per_label.json` and `.png`, the paper's Figure 4.

        With negatives of another video these are `correspondence_<split>_per_label`.
        """
        rows, kind = self.per_label(self._result), _KINDS[self._config.negatives]
        if not rows:
            return []
        table, picture = (folder / f"{kind.report}_{self._split}_per_label.{suffix}" for suffix in ("json", "png"))
        table.write_text(json.dumps(rows, indent=2))
        figures.save_per_label_accuracy(rows, picture, f"{kind.title} accuracy by class (clips), 95% intervals")
        return [table, picture]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What is of one kind of negatives."""

    name: str  # of the task, that its metrics begin with
    count: str  # metric: held-out clips
    report: str  # that the names of files begin with
    title: str
    question: str


_KINDS = {
    "shifted": _Kind("avs", "clips", "pretext", "Synchronization", "in sync or shifted?"),
    "other": _Kind("avc", "avc_clips", "correspondence", "Correspondence", "its own sound or another video's?"),
}


def panels(task: Pairs, config: ConfigDict) -> tuple[figures.Panel, ...]:
    """What to draw of a run."""
    del task  # In training a pair is right or wrong, whatever the task's settings.
    kind = _KINDS[config.negatives]
    return (
        figures.Panel(
            f"Cross-entropy: {kind.question}", train="sync_loss", held_out=f"{kind.name}_loss", chance=math.log(2)
        ),
        figures.Panel(
            f"Accuracy: {kind.question}",
            train="accuracy",
            held_out=f"{kind.name}_accuracy",
            chance=0.5,
            limits=(0.4, 1.01),
        ),
    )


def _answer(variables: Any, batch: dict[str, jax.Array], *, task: Pairs) -> dict[str, jax.Array]:
    outputs, _ = task.apply(variables, batch, train=False)
    return {
        "correct": balanced(is_correct(outputs["logits"], batch["labels"])),
        "loss": balanced(optax.sigmoid_binary_cross_entropy(outputs["logits"], batch["labels"])),
        "label": batch["label"],
        "mask": batch["mask"],
    }
