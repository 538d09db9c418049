"""Retrieval: is the sound that is most like a clip's picture its own, and the other way round?

Among N held-out clips, the middle of each, by the cosine of what is seen and what is heard. The rank of a clip's
partner is 1 plus how many others are at least as like: a tie counts against, so that embeddings that are all one point
find nothing. R@k is the share of clips whose partner is among the first k; chance is k / N.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cmav import distributed
from cmav.data.index import SplitIndex
from cmav.data.pipeline import Loader
from cmav.evals import figures
from cmav.evals.collect import collect, evenly_spaced
from cmav.evals.intervals import wilson_interval
from cmav.tasks.base import Embeddings

KS = (1, 5, 10)
_ROWS_AT_A_TIME = 1024  # of similarities
_ROUNDING = 1e-9  # of a cosine in float64


class RetrievalEvaluator:
    """`run` yields, for `video_to_audio_` and `audio_to_video_`, `r1`, `r5`, `r10`, the ends of R@1's 95% interval and
    `median_rank`; then `r1`, the mean of both directions, `r1_chance` and `clips`.

    `config` has `clips`, how many to retrieve among, evenly spaced in the split (0: all), and `batch_size`.
    """

    needs, needs_head = Embeddings, True
    settings = ("every", "batch_size", "clips")

    def __init__(self, config: ConfigDict, data: ConfigDict, task: Embeddings, mesh: Mesh, split: str):
        distributed.local_rows(config.batch_size, mesh)
        self._config, self._mesh, self._split = config, mesh, split
        index = SplitIndex.load(data.dir, split)
        records = task.usable_records(index, train=False)
        records = evenly_spaced(records, config.clips or len(records))
        make_example = functools.partial(task.make_example, train=False)
        self._loader = Loader.of(index, make_example, records, data)
        self._answer = jax.jit(functools.partial(_answer, task=task), out_shardings=distributed.replicated(mesh))
        self._metrics: dict[str, float] = {}

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        variables = {"params": state.params, **state.model_state}
        found = collect(self._answer, variables, self._loader, self._mesh, batch_size=self._config.batch_size)
        whole = found["mask"][:, 0] > 0
        self._metrics = measure(found["video"][whole, 0], found["audio"][whole, 0])
        yield from self._metrics.items()

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """`retrieval_<split>.json`: what `run` yields."""
        path = folder / f"retrieval_{self._split}.json"
        path.write_text(json.dumps(self._metrics, indent=2))
        return [path]


def measure(video_NxE: np.ndarray, audio_NxE: np.ndarray) -> dict[str, float]:
    """The metrics of `RetrievalEvaluator`, by name.

    Args:
      video_NxE: embeddings at length 1.
      audio_NxE: the same of the sounds; row i is of the same clip.
    """
    count, metrics = len(video_NxE), {}
    directions = {"video_to_audio": (video_NxE, audio_NxE), "audio_to_video": (audio_NxE, video_NxE)}
    for name, (queries_NxE, gallery_NxE) in directions.items():
        ranks_N = rank_of_partner(queries_NxE, gallery_NxE)
        shares = {k: float((ranks_N <= k).mean()) for k in KS}
        low, high = wilson_interval(shares[1], count)
        metrics |= {f"{name}_r{k}": share for k, share in shares.items()}
        metrics |= {f"{name}_r1_low": low, f"{name}_r1_high": high}
        metrics[f"{name}_median_rank"] = float(np.median(ranks_N))
    metrics["r1"] = (metrics["video_to_audio_r1"] + metrics["audio_to_video_r1"]) / 2
    return {**metrics, "r1_chance": 1 / count, "clips": count}


def rank_of_partner(queries_NxE: np.ndarray, gallery_NxE: np.ndarray) -> np.ndarray:
    """How many of the gallery are at least as like each query as its partner, that included: int64 [N], from 1.

    Both are float [N, E]; the partner of query i is row i of the gallery. What is not a number is at least as like.
    """
    queries, gallery = queries_NxE.astype(np.float64), gallery_NxE.astype(np.float64)
    own_N = np.einsum("ne,ne->n", queries, gallery)
    ranks = []
    for start in range(0, len(queries), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        # Two ways to add up one product differ in its last bits: equal ones must stay equal.
        less_like = queries[rows] @ gallery.T < own_N[rows, None] - _ROUNDING
        ranks.append((~less_like).sum(axis=1))
    return np.concatenate(ranks)


def panels(task: Embeddings, config: ConfigDict) -> tuple[figures.Panel, ...]:
    """What to draw of a run. In training it is retrieval among a batch, held out among more clips: so is chance."""
    del task, config
    limits = (0, 1.01)
    return (
        figures.Panel("Contrastive loss", "contrast_loss", held_out=None, chance=None),
        figures.Panel("R@1: sound of a picture", "video_to_audio_top1", "video_to_audio_r1", None, limits),
        figures.Panel("R@1: picture of a sound", "audio_to_video_top1", "audio_to_video_r1", None, limits),
    )


def _answer(variables: Any, batch: Mapping[str, jax.Array], *, task: Embeddings) -> dict[str, jax.Array]:
    outputs, _ = task.apply(variables, batch, train=False)
    video, audio = task.embeddings(outputs)
    return {"video": video, "audio": audio, "mask": batch["mask"]}
