"""Where a network says that the sound is, in held-out clips: against boxes, and as a picture of a few fixed clips.

The middle of each record is looked at, whole pictures of it. What is above 0 in its maps is averaged over the clip,
with a weight that falls from 1 in its middle, the instant of the boxes, to 0 at its ends. A clip that nowhere reaches
-60 dB of full scale, A-weighted, is silent: its maps are 0. Pauses of one that is not count in what is ranked, as in
the field's protocol, but neither in the pictures nor in the share of the maps' mass that lies in the boxes
(`heat.audible`). What is measured is in `cmav.evals.localization`, what the methods are in `cmav.localization.methods`.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cmav import distributed
from cmav.data import checks, clip_ids, files
from cmav.data.index import SplitIndex
from cmav.data.pipeline import Loader
from cmav.errors import UserError
from cmav.evals import figures, localization
from cmav.evals.collect import collect, evenly_spaced
from cmav.evals.false_alarms import false_alarms
from cmav.evals.localization_pictures import Example, draw
from cmav.evals.localization_scores import Scores, format_table
from cmav.localization import boxes, heat, methods
from cmav.localization.boxes import SIZE, Truth
from cmav.localization.scenes import read_scenes
from cmav.localization.task import HEADS, LocalizationTask, find_loudness, find_maps
from cmav.models import maps
from cmav.models.precision import float32_einsum
from cmav.tasks.base import Maps

# Of each method, for TensorBoard; the report has all.
_SCALARS = (
    *("pixel_ap", "ciou50", "auc", "source_recall", "distractor_recall"),
    *("sounding_above_silent", "false_alarm_rate", "mass_in_boxes"),
)
_SOUNDING = "sounding/"  # before a method's name: the mean over the instants that sound


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What is measured of a network's maps.

    Attributes:
      scores: by method.
      heads: how the attention heads share the sources of a clip: a dict for each number of sources from two on
        (`localization.count_sources`). Empty where there is no such method, or no such clip.
      clips_without: number of the clips in which nothing that is seen sounds.
    """

    scores: dict[str, Scores]
    heads: list[dict[str, float]]
    clips_without: int


class LocalizationEvaluator:
    """Judges a network's maps of a split where `config.boxes` has boxes, and draws those of some of its clips.

    `run` yields for each method `<method>_pixel_ap`, `_ciou50`, `_auc` and `_mass_in_boxes`, and, where they can be
    known, `_source_recall`, `_distractor_recall`, `_sounding_above_silent` and `_false_alarm_rate`; then `maps`, a
    picture. Clips and boxes belong together by the name of the video. The report also has the numbers of a network
    that never learned, and of trivial baselines.
    """

    needs, needs_head = Maps, True
    settings = ("every", "batch_size", "methods", "stride", "pictures", "boxes", "scenes")

    def __init__(self, config: ConfigDict, data: ConfigDict, task: Maps, mesh: Mesh, split: str):
        methods.check(config.methods, task.map_methods())
        self._config, self._data, self._mesh, self._split = config, data, mesh, split
        self._doubt = task.doubt(tuple(config.methods))
        if self._doubt:
            logging.warning("%s.", self._doubt)
        self._index = SplitIndex.load(data.dir, split)
        self._task = LocalizationTask.of(task, size=checks.frame_side(self._index), stride=config.stride or None)
        self._records = self._task.usable_records(self._index)
        self._truths, self._without = _read_truths(config.boxes, config.scenes)
        if self._truths:
            clip_ids.require_any(self._index, self._records, self._truths, self._no_boxes())
        self._pictured = self._choose_pictured(config.pictures)
        answer = functools.partial(_answer, task=self._task, methods=tuple(config.methods))
        self._answer = jax.jit(answer, out_shardings=distributed.replicated(mesh))
        self._step = 0
        self._trained: Judgement | None = None
        self._untrained: Judgement | None = None
        self._picture: np.ndarray | None = None

    def run(self, state: Any) -> Iterator[tuple[str, float | np.ndarray]]:
        self._step = int(state.step)
        records = self._records if self._truths else np.array([record for record, _ in self._pictured], int)
        if not len(records):
            return
        found = self._find({"params": state.params, **state.model_state}, records)
        if self._truths:
            self._trained = self._judge(found)
            for method, scores in self._trained.scores.items():
                numbers = scores.numbers()
                yield from ((f"{method}_{name}", numbers[name]) for name in _SCALARS if numbers[name] is not None)
        if self._pictured:
            rows = np.searchsorted(records, [record for record, _ in self._pictured])
            examples = [
                dataclasses.replace(example, maps={name: found[_SOUNDING + name][row] for name in self._config.methods})
                for row, (_, example) in zip(rows, self._pictured, strict=True)
            ]
            self._picture = draw(examples, self._task.centres)
            yield "maps", self._picture
        if self._truths and self._untrained is None:
            init = jax.jit(self._task.of_network.init, out_shardings=distributed.replicated(self._mesh))
            self._untrained = self._judge(self._find(init(jax.random.key(0)), records))

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """`localization_<split>.png`, the picture; where there are boxes also `.json` and `.txt`, tables of numbers."""
        path = folder / f"localization_{self._split}"
        written = []
        if self._picture is not None:
            written.append(path.with_suffix(".png"))
            figures.save_pixels(self._picture, written[-1])
        if self._trained is None:
            return written
        truths = [self._truths[row.file] for row in next(iter(self._trained.scores.values())).rows]
        kinds = {
            "trivial": localization.trivial_scores(truths),
            "untrained": {f"{name}, untrained": scores for name, scores in self._untrained.scores.items()},
            "network": self._trained.scores,
        }
        rows = [
            {"name": name, "kind": kind, **scores.numbers()}
            for kind, by_name in kinds.items()
            for name, scores in by_name.items()
        ]
        numbers = {
            "split": self._split,
            "step": self._step,
            "clips": len(truths),
            "clips_without": self._trained.clips_without,
            "size": self._task.size,
            "stride": self._task.stride,
            "rows": rows,
            "heads": self._trained.heads or None,
            "doubt": self._doubt,
        }
        path.with_suffix(".json").write_text(json.dumps(numbers, indent=2))
        table = format_table({name: scores for by_name in kinds.values() for name, scores in by_name.items()})
        head = f"Step {self._step}, {len(truths)} clips of {self._split!r}." + f"\n{self._doubt}." * bool(self._doubt)
        path.with_suffix(".txt").write_text(f"{head}\n\n{table}\n")
        return [*written, path.with_suffix(".json"), path.with_suffix(".txt")]

    def _no_boxes(self) -> UserError:
        return UserError(
            f"none of the clips of split {self._split!r} in {self._index.folder!r} has boxes in {self._config.boxes}, "
            f"which is of files such as {next(iter(self._truths))!r}: name the boxes of these videos, or none "
            "(boxes='')."
        )

    def _find(self, variables: Mapping[str, Any], records: np.ndarray) -> dict[str, np.ndarray]:
        """What `_answer` says of each of the records, in their order."""
        loader = Loader.of(self._index, self._make_example, records, self._data)
        batch_size = -(-self._config.batch_size // self._mesh.size) * self._mesh.size
        found = collect(self._answer, variables, loader, self._mesh, batch_size=batch_size)
        return {name: x[:, 0] for name, x in found.items()}  # A record has a single view.

    def _make_example(self, record: Mapping[str, Any], seed: Any, view: Any) -> dict[str, Any]:
        """Pictures and sound, and `file`: the number of its video among those with boxes, followed by those without."""
        number = files.number_of_file(record["clip_id"], [*self._truths, *self._without])
        return {**self._task.make_example(record), "file": number}

    def _judge(self, found: Mapping[str, np.ndarray]) -> Judgement:
        """Measures the maps of the records whose file has boxes.

        Raises:
          UserError: where none has.
        """
        numbers = np.where(found["mask"] > 0, found["file"], -1)
        known, counts = np.unique(numbers[numbers >= 0], return_counts=True)
        if (cut := known[counts > 1]).size:
            logging.warning("left out, for boxes are of whole videos: %d in %r that were cut", cut.size, self._split)
            numbers[np.isin(numbers, cut)] = -1
        truths = list(self._truths.values())
        seen, unseen = np.flatnonzero((numbers >= 0) & (numbers < len(truths))), np.flatnonzero(numbers >= len(truths))
        if not len(seen):
            raise self._no_boxes()
        truths = [truths[numbers[row]] for row in seen]
        scores = {}
        for method in self._config.methods:
            enlarged = (self._enlarge(found[method][row]) for row in seen)
            peaks = found[method].max(axis=(1, 2))
            alarms = false_alarms(peaks[seen], peaks[unseen]) if len(unseen) else None
            sounding = (self._enlarge(found[_SOUNDING + method][row]) for row in seen)
            masses = list(map(localization.mass_in_boxes, sounding, truths))
            scores[method] = dataclasses.replace(
                localization.score(enlarged, truths), false_alarms=alarms, masses=tuple(masses)
            )
        heads = []
        known = self._task.of_network.map_methods()
        for method in [one for one in self._config.methods if known[one].by_heads]:
            by_head = (map(self._enlarge, found[HEADS][row]) for row in seen)
            heads = localization.count_sources(scores[method], by_head, truths)
        return Judgement(scores, heads, len(unseen))

    def _enlarge(self, map_HxW: np.ndarray) -> np.ndarray:
        return np.asarray(maps.upsample(map_HxW, (SIZE, SIZE), self._task.centres))

    def _choose_pictured(self, count: int) -> list[tuple[int, Example]]:
        """Records with sound, evenly spaced in the split, and their middle frames. Always the same."""
        heard = self._records[self._index.rows["has_audio"][self._records]]
        chosen = []
        for record, file, picture in files.read_middles(self._index, evenly_spaced(heard, count)):
            truth = self._truths.get(file)
            chosen.append((record, Example(file, picture, truth.boxes_Kx4 if truth else np.zeros((0, 4)), {})))
        return chosen


def _read_truths(boxes_path: str, scenes_folder: str) -> tuple[dict[str, Truth], list[str]]:
    """Truths by file, with what is silent beside what sounds, and the files in which nothing that is seen sounds."""
    if not boxes_path:
        return {}, []
    annotations = boxes.read(boxes_path)
    if annotations.damaged:
        logging.warning("%s", annotations.report())
    truths = {truth.file: truth for truth in annotations.truths}
    if scenes_folder:
        for file, scene in read_scenes(scenes_folder).items():
            if file in truths:
                truths[file] = dataclasses.replace(truths[file], silent_Kx4=scene.distractors_Kx4)
    return truths, annotations.without_boxes


def _answer(
    variables: Mapping[str, Any], batch: Mapping[str, jax.Array], *, task: LocalizationTask, methods: Sequence[str]
) -> dict[str, jax.Array]:
    """What is above 0 in the maps, averaged around the middle: [B, H', W'] by method, and of heads [B, A, H', W'].

    Under `sounding/<method>` the mean over what sounds of that: instants count as far as they are audible.
    """
    weights_T = np.maximum(1 - abs(2 * task.token_times / task.clip.seconds - 1), 0)
    audible_BxT = weights_T * heat.audible(find_loudness(batch, task=task))
    shares_BxT = audible_BxT / jnp.maximum(audible_BxT.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    maps_of = {name: jax.nn.relu(x) for name, x in find_maps(variables, batch, task=task, methods=methods).items()}
    found = {name: float32_einsum("t,bt...->b...", weights_T / weights_T.sum(), x) for name, x in maps_of.items()}
    found |= {_SOUNDING + name: float32_einsum("bt,bt...->b...", shares_BxT, maps_of[name]) for name in methods}
    return {**found, "file": batch["file"], "mask": batch["mask"]}
