"""Frequency grounding: which frequencies of the sound does a network attend to, and are they those of what is seen?

The audio's attention is a distribution over frequencies at each moment; here its mean over a clip's moments, each
weighted by how loud it is (the mean of its log-mel spectrogram over frequencies, which is 0 in silence). On the
synthetic world it is known between which frequencies each object sounds, so that attention can be measured: whether it
is on the band of what is seen, and where something else sounds off-screen, in another band, whether the one that is
seen gets more. The sound's own energy is the comparison: it is what one hears without looking.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cmav import distributed
from cmav.data import clip_ids, files
from cmav.data.index import SplitIndex
from cmav.data.pipeline import Loader
from cmav.errors import UserError
from cmav.evals import figures
from cmav.evals.collect import collect, evenly_spaced
from cmav.evals.intervals import bootstrap_interval, wilson_interval
from cmav.evals.localization_pictures import short_name
from cmav.localization.scenes import Scene, Sound, read_scenes
from cmav.models import encoders
from cmav.models.precision import float32_einsum
from cmav.tasks.base import Bands

ENERGY = "energy"  # of the sound, beside the attentions
SOUND = "sound"  # its log-mel spectrogram, in pictures

# Between two frequencies, Hz.
Band = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What is measured of one attention, or of the energy.

    Attributes:
      aucs_N: of each clip, the probability that a frequency at which something seen sounds gets more than another; by
        chance a half.
      told_apart_K: of each clip in which something sounds off-screen, where both have frequencies that the other has
        not: whether those of what is seen get more on average than those of what is not; by chance a half. A tie counts
        against.
    """

    aucs_N: np.ndarray
    told_apart_K: np.ndarray

    def numbers(self) -> dict[str, float]:
        """Both means, `band_auc` and, where it can be known, `told_apart`, and `_low` and `_high` of each.

        The ends are those of 95% intervals over clips, by the bootstrap and Wilson's.
        """
        means = {"band_auc": (float(self.aucs_N.mean()), bootstrap_interval(self.aucs_N))}
        if len(self.told_apart_K):
            share = float(self.told_apart_K.mean())
            means["told_apart"] = share, wilson_interval(share, len(self.told_apart_K))
        numbers = {}
        for name, (mean, (low, high)) in means.items():
            numbers |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        return numbers


class FrequencyEvaluator:
    """Judges the attentions over frequencies where `config.scenes` names a synthetic world, and draws some clips.

    `run` yields `<attention>_band_auc` and, where something sounds off-screen, `<attention>_told_apart`, each with its
    95% interval, of each attention of the task and of `energy`; then `attention`, a picture of `config.pictures` clips.
    Clips and scenes belong together by the name of the video.
    """

    needs, needs_head = Bands, True
    settings = ("every", "batch_size", "pictures", "scenes")

    def __init__(self, config: ConfigDict, data: ConfigDict, task: Bands, mesh: Mesh, split: str):
        distributed.local_rows(config.batch_size, mesh)
        self._config, self._data, self._task, self._mesh, self._split = config, data, task, mesh, split
        self._index = SplitIndex.load(data.dir, split)
        self._encoder = encoders.audio(task.model_config)
        self._bands_F = self._encoder.bands(task.clip.sample_rate)
        self._records = task.usable_records(self._index, train=False)
        self._scenes = _scenes_to_judge(config.scenes, self._bands_F) if config.scenes else {}
        if self._scenes:
            clip_ids.require_any(self._index, self._records, self._scenes, self._no_scenes())
        pictured = files.read_middles(self._index, evenly_spaced(self._records, config.pictures))
        self._pictured = {record: file for record, file, _ in pictured}
        self._answer, self._look = (
            jax.jit(functools.partial(f, task=task, encoder=self._encoder), out_shardings=distributed.replicated(mesh))
            for f in (_answer, _look)
        )
        self._report: dict[str, Any] = {}
        self._picture: np.ndarray | None = None

    def run(self, state: Any) -> Iterator[tuple[str, float | np.ndarray]]:
        variables = {"params": state.params, **state.model_state}
        if self._scenes:
            judgements = self._judge(self._collect(self._answer, variables, self._records))
            self._report = {name: judgement.numbers() for name, judgement in judgements.items()}
            for name, numbers in self._report.items():
                yield from ((f"{name}_{key}", value) for key, value in numbers.items())
            energy = judgements[ENERGY]
            self._report |= {"clips": len(energy.aucs_N), "clips_with_offscreen": len(energy.told_apart_K)}
        if self._pictured:
            self._picture = self._draw(self._collect(self._look, variables, np.array(list(self._pictured))))
            yield "attention", self._picture

    def write_report(self, folder: epath.Path) -> list[epath.Path]:
        """`frequencies_<split>.json`, where a synthetic world is named, and `.png`, the picture."""
        path, written = folder / f"frequencies_{self._split}", []
        if self._report:
            written.append(path.with_suffix(".json"))
            written[-1].write_text(json.dumps(self._report, indent=2))
        if self._picture is not None:
            written.append(path.with_suffix(".png"))
            figures.save_pixels(self._picture, written[-1])
        return written

    def _no_scenes(self) -> UserError:
        return UserError(
            f"none of the clips of split {self._split!r} in {self._index.folder!r} is of a video of "
            f"{self._config.scenes} in which something that is seen sounds, such as {next(iter(self._scenes))!r}: name "
            "the world of these videos, or none (scenes='')."
        )

    def _collect(self, answer: Any, variables: Mapping[str, Any], records: np.ndarray) -> dict[str, np.ndarray]:
        """What `answer` says of each of the records, in their order; zeros of those that cannot be read."""
        loader = Loader.of(self._index, self._make_example, records, self._data)
        found = collect(answer, variables, loader, self._mesh, batch_size=self._config.batch_size)
        return {name: x[:, 0] for name, x in found.items()}  # A record has a single view.

    def _make_example(self, record: Mapping[str, Any], seed: Any, view: Any) -> dict[str, Any]:
        """The task's, and `file`: the number of its video among the scenes, -1 where it has none."""
        example = self._task.make_example(record, seed, view, train=False)
        return {**example, "file": files.number_of_file(record["clip_id"], list(self._scenes))}

    def _judge(self, found: dict[str, np.ndarray]) -> dict[str, Judgement]:
        """By attention.

        Raises:
          UserError: where no clip has a scene.
        """
        numbers = np.where(found.pop("mask") > 0, found.pop("file"), -1)
        if not np.any(numbers >= 0):
            raise self._no_scenes()
        known, scenes = numbers >= 0, list(self._scenes.values())
        scenes = [scenes[number] for number in numbers[known]]
        return {name: judge(given_NxF[known], scenes, self._bands_F) for name, given_NxF in found.items()}

    def _draw(self, found: dict[str, np.ndarray]) -> np.ndarray:
        del found["mask"]  # They could be read before, all but perhaps a frame.
        shown = {SOUND: found.pop(SOUND), **found}
        files_hz = {file: scene.onscreen_hz for file, scene in self._scenes.items()}
        clips = [(file, files_hz.get(file, ())) for file in self._pictured.values()]
        clip = self._task.clip
        return draw(clips, shown, clip.seconds, self._encoder.mel_hz(clip.sample_rate), self._bands_F)


def judge(given_NxF: np.ndarray, scenes: Sequence[Scene], bands_F: np.ndarray) -> Judgement:
    """Measures how attention is spread over frequencies.

    Args:
      given_NxF: what each band gets in each clip.
      scenes: of the clips. In each something that is seen sounds, in some of the bands and not in all.
      bands_F: centres of the bands, Hz.
    """
    aucs, told_apart = [], []
    for given_F, scene in zip(given_NxF, scenes, strict=True):
        onscreen_F, offscreen_F = _within(bands_F, scene.onscreen_hz), _within(bands_F, scene.offscreen_hz)
        inside, outside = given_F[onscreen_F, None], given_F[~onscreen_F]
        aucs.append(((inside > outside) + 0.5 * (inside == outside)).mean())
        of_one_F, of_other_F = onscreen_F & ~offscreen_F, offscreen_F & ~onscreen_F
        if of_one_F.any() and of_other_F.any():
            told_apart.append(given_F[of_one_F].mean() > given_F[of_other_F].mean())
    return Judgement(np.array(aucs), np.array(told_apart, bool))


def draw(
    clips: Sequence[tuple[str, Sequence[Band]]],
    shown: Mapping[str, np.ndarray],
    seconds: float,
    mel_hz: np.ndarray,
    bands_F: np.ndarray,
) -> np.ndarray:
    """A row for each clip: its spectrogram, and each attention over the same axes. uint8 [height, width, 3].

    Each is black at 0 and brightest at its own greatest value.

    Args:
      clips: file of each, and the bands in which what is seen sounds, which are marked; there may be none.
      shown: log-mel spectrograms `SOUND` [N, frames, mels], and by attention [N, times, bands]; at least 0.
      seconds: length of a clip.
      mel_hz: centres of the spectrogram's bands, Hz.
      bands_F: of the attention's.
    """
    figure = Figure(figsize=(2.6 * len(shown), 1.5 * len(clips) + 0.3), layout="constrained", dpi=110)
    grid = figure.subplots(len(clips), len(shown), squeeze=False)
    for number, (file, onscreen_hz) in enumerate(clips):
        for axes, (title, x) in zip(grid[number], shown.items(), strict=True):
            hz = mel_hz if title == SOUND else bands_F
            # Equal steps of mel are equal steps here: the axis counts bands, and its marks say kHz.
            extent = (0, seconds, -0.5, len(hz) - 0.5)
            axes.imshow(x[number].T, origin="lower", aspect="auto", extent=extent, cmap="inferno", vmin=0)
            ticks = np.unique(np.linspace(0, len(hz) - 1, 4).round().astype(int))
            axes.set_yticks(ticks, [f"{hz[tick] / 1000:.1f}" for tick in ticks], fontsize=6)
            axes.tick_params(axis="x", labelsize=6)
            for edge in np.interp(np.ravel(onscreen_hz), _edges(hz), np.arange(len(hz) + 1) - 0.5):
                axes.axhline(edge, color="cyan", linewidth=0.9, linestyle="--")
            if not number:
                axes.set_title(title, fontsize=9)
        grid[number][0].set_ylabel(f"{short_name(file)}\nkHz", fontsize=6)
    for axes in grid[-1]:
        axes.set_xlabel("seconds", fontsize=7)
    return figures.to_pixels(figure)


def _scenes_to_judge(folder: str, bands_F: np.ndarray) -> dict[str, Scene]:
    """The scenes by file in which something that is seen sounds, in some of the bands and not in all.

    Raises:
      UserError: where there are none, or the world does not say at which frequencies its objects sound.
    """
    scenes = {file: scene for file, scene in read_scenes(folder).items() if scene.sound is Sound.ON_SCREEN}
    if not scenes:
        raise UserError(f"in no video of {folder} does anything that is seen sound: name another, or none (scenes='').")
    if not all(scene.onscreen_hz for scene in scenes.values()):
        raise UserError(
            f"{folder}/events.json is older than `hertz`, the frequencies at which each object sounds: make the world "
            "again, by data_prep/synthesize_videos.py with the options that are in its world.json. The videos that are "
            "there are kept."
        )
    within = {file: _within(bands_F, scene.onscreen_hz) for file, scene in scenes.items()}
    judged = {file: scenes[file] for file, onscreen_F in within.items() if onscreen_F.any() and not onscreen_F.all()}
    if not judged:
        low, high = next(iter(scenes.values())).onscreen_hz[0]
        raise UserError(
            f"the attention's frequencies, {', '.join(f'{hz:.0f}' for hz in bands_F)} Hz, are too few to tell which of "
            f"them sound in {folder}, where an object sounds from {low:.0f} to {high:.0f} Hz: set more "
            "config.model.audio.mels or smaller strides of frequency in config.model.audio.strides, or no scenes "
            "(scenes='')."
        )
    return judged


def _within(bands_F: np.ndarray, ranges: Sequence[Band]) -> np.ndarray:
    """Which bands' centres lie within any of the ranges, bool [F]; of a range without any, the nearest to its middle.

    Without that, a low sound would lie between two bands of a coarse map. What is above the last band is in none.
    """
    low_Rx1, high_Rx1 = np.reshape(ranges, (-1, 2, 1)).swapaxes(0, 1)
    middle_Rx1, edges = (low_Rx1 + high_Rx1) / 2, _edges(bands_F)
    # Where any centre is within, the nearest to the middle is.
    is_nearest_RxF = (edges[:-1] <= middle_Rx1) & (middle_Rx1 < edges[1:])
    return (((low_Rx1 <= bands_F) & (bands_F <= high_Rx1)) | is_nearest_RxF).any(axis=0)


def _edges(bands_F: np.ndarray) -> np.ndarray:
    """Hz [F + 1]: halfway between the centres of bands, from 0 to as far above the last."""
    last = bands_F[-1] + (bands_F[-1] - bands_F[-2:][0]) / 2
    return np.concatenate([[min(0.0, bands_F[0])], (bands_F[:-1] + bands_F[1:]) / 2, [last]])


def _attentions(variables: Any, batch: Mapping[str, jax.Array], task: Bands) -> dict[str, jax.Array]:
    """Distributions over frequencies, [B, times, bands] by attention."""
    outputs, _ = task.apply(variables, batch, train=False)
    return {name: jax.nn.softmax(logits) for name, logits in task.audio_attentions(outputs).items()}


def _look(variables: Any, batch: Mapping[str, jax.Array], *, task: Bands, encoder: Any) -> dict[str, jax.Array]:
    """The spectrogram [B, frames, mels], and the attentions."""
    sound = encoder.spectrogram(batch["audio"], task.clip.sample_rate)
    return {SOUND: sound, **_attentions(variables, batch, task), "mask": batch["mask"]}


def _answer(variables: Any, batch: Mapping[str, jax.Array], *, task: Bands, encoder: Any) -> dict[str, jax.Array]:
    """What each band gets in a clip, [B, bands], by attention and of the energy."""
    clip, rate = task.clip, task.clip.sample_rate
    sound_BxKxM = encoder.spectrogram(batch["audio"], rate)
    seconds_K = np.arange(sound_BxKxM.shape[1]) * encoder.hop_seconds(rate)
    over_time_KxT = _mean_of_nearest(seconds_K, encoder.times(clip.num_samples, rate))
    over_bands_MxF = _mean_of_nearest(encoder.mel_hz(rate), encoder.bands(rate))
    energy_BxTxF = float32_einsum("bkm,kt,mf->btf", sound_BxKxM, over_time_KxT, over_bands_MxF)
    loud_BxT = energy_BxTxF.mean(axis=2)
    loud_BxT /= jnp.maximum(loud_BxT.sum(axis=1, keepdims=True), 1e-6)
    spread = {**_attentions(variables, batch, task), ENERGY: energy_BxTxF}
    given = {name: float32_einsum("bt,btf->bf", loud_BxT, x_BxTxF) for name, x_BxTxF in spread.items()}
    return {**given, "file": batch["file"], "mask": batch["mask"]}


def _mean_of_nearest(places_K: np.ndarray, centres_T: np.ndarray) -> np.ndarray:
    """Weights float32 [K, T]: each centre gets the mean of the places that are nearest to it, or halfway to the next.

    A centre beyond the end, that has none, gets 0: most of what is there is padding, which stands for silence.
    """
    distance_KxT = abs(places_K[:, None] - centres_T)
    is_nearest_KxT = distance_KxT <= distance_KxT.min(axis=1, keepdims=True) * (1 + 1e-6)
    return (is_nearest_KxT / is_nearest_KxT.sum(axis=0).clip(1)).astype(np.float32)
