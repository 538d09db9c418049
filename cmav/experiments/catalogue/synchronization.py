"""Synchronization: controls, what the number of videos brings, tokens, and what helps off the plateau."""

import dataclasses
from typing import Any

from etils import epath

from cmav.configs import sync_grid
from cmav.experiments.catalogue.paper import DEMO_LONGER, FUSED_DEMO, FUSION_ALONE, NO_MAPS, PRETRAINING
from cmav.experiments.experiment import Experiment, Stage, Sweep
from cmav.training import summary

_MOUTH = ",".join(map(str, sync_grid.MOUTH)).join("()")  # without spaces, which would end the argument
_GRID = "--config=configs/sync_grid.py"
SYNC_GRID = Experiment(
    question="Are sound and picture of a talking face aligned? AVS on one speaker; of both shifted nobody can know.",
    setup="configs/sync_grid.py says how to build it",
    stages={"pretraining": Stage(f"{PRETRAINING} {NO_MAPS}", "pretraining/summary.json")},
    arms={
        "as the preset": _GRID,
        "no alignment loss": f"{_GRID} --config.loss.alignment_weight=0.",
        "no comparison of moments": f"{_GRID} --config.model.fusion_moments=0.",
        "both shifted": f"{_GRID} --config.data.shift_both=True",
        "mouth covered": f"{_GRID} --config.data.covered=({_MOUTH},)",
        "only the mouth": f"{_GRID} --config.data.shown=({_MOUTH},)",
    },
    columns={
        "accuracy": "pretraining/avs_accuracy",
        "within 1 frame": "pretraining/within_1_frame",
        "within 2 frames": "pretraining/within_2_frames",
        "median error ms": "pretraining/median_error_ms",
    },
    reference="as the preset",
)

_VIDEOS = {"75": 75, "150": 150, "300": 300, "all 600": 0}  # 0: all that there are
SCALING_GRID = dataclasses.replace(
    SYNC_GRID,
    question="What do more videos of a talking face bring, in as many steps?",
    arms={"as the preset": _GRID},
    sweep=Sweep("training videos", {name: f"--config.data.max_videos={count}" for name, count in _VIDEOS.items()}),
    columns={"accuracy": "pretraining/avs_accuracy", "within 1 frame": "pretraining/within_1_frame"},
    chance={"accuracy": 0.5},
)

TOKENS = Experiment(
    question="Must the network know when each token is? Where it gets no positions and sees only the mean of each "
    "stream's tokens, nothing but the encoders can tell.",
    setup="`make data/demo/shards/index-validation.npy`",
    stages={"pretraining": Stage(f"{PRETRAINING} {NO_MAPS}", "pretraining/summary.json")},
    arms={
        f"{positions}, {fusion}": f"{FUSED_DEMO} --config.model.positions={positions} --config.model.fusion={fusion}"
        for fusion in ("flatten", "mean")
        for positions in ("none", "learned", "seconds")
    },
    columns={"accuracy": "pretraining/avs_accuracy"},
    reference="seconds, flatten",
    chance={"accuracy": 0.5},
)


def _off_chance(folder: epath.Path) -> dict[str, Any]:
    step, left = summary.leaving_chance(summary.read_scalars(folder)["pretext/avs_accuracy_low"])
    return {"steps_until_off_chance": step, "steps_until_off_chance_is_at_least": not left}


_PLAIN = "--config.loss.alignment_weight=0."
_OFTEN = "--config.evals.pretext.every=50"
_FUSED = f"{FUSED_DEMO} {_OFTEN}"
_COMPARED = f"--config=configs/demo.py {DEMO_LONGER} --config.model.fusion_moments=0.1 {_OFTEN}"
_CURRICULUM = f"--config=configs/demo_curriculum.py {_OFTEN}"


def _batches(size: int) -> str:
    """As many clips as the demo's 700 steps of 16, warm-up and evaluations at the same clips."""
    steps, warm_up, every = (count * 16 // size for count in (700, 100, 50))
    return (
        f"--config=configs/demo.py {FUSION_ALONE} {_PLAIN} --config.phases[0].batch_size={size} "
        f"--config.phases[0].steps={steps} --config.optim.warmup_steps={warm_up} --config.evals.pretext.every={every}"
    )


def _phases(**settings: Any) -> str:
    """The same in all three phases of the curriculum."""
    return " ".join(f"--config.phases[{number}].{key}={x}" for number in range(3) for key, x in settings.items())


def _three_phases(other_share: float) -> str:
    """The demo's phase in three: flags can change the curriculum's phases, but make none."""
    return f"{_CURRICULUM} {_PLAIN} {_phases(other_share=other_share, shift_seconds='(2.0,5.8)')}"


PLATEAU = Experiment(
    question="What helps synchronization off its plateau, at which pairs are judged by chance? From which step on, of "
    "700 with 16 clips, does the 95% interval of the accuracy stay above 0.5? Batches of 8 have twice as "
    "many steps, and such of 32 half as many: the same number of clips.",
    setup="`make data/demo/shards/index-validation.npy`",
    stages={"pretraining": Stage(f"{PRETRAINING} {NO_MAPS}", "pretraining/summary.json", _off_chance)},
    arms={
        "plain": f"{_FUSED} {_PLAIN}",
        "alignment loss": _FUSED,
        "comparison of moments": f"{_COMPARED} {_PLAIN}",
        "comparison of moments, alignment loss": _COMPARED,
        "curriculum": f"{_CURRICULUM} {_PLAIN}",
        "curriculum, alignment loss": _CURRICULUM,
        "half other": _three_phases(0.5),
        "300 steps at half the frame rate": f"{_three_phases(0.0)} --config.phases[0].frame_rate=5. "
        "--config.phases[1].frame_rate=5.",
        "batch 8, 1,400 steps": _batches(8),
        "batch 32, 350 steps": _batches(32),
        "SGD": f"{_FUSED} {_PLAIN} --config.optim.name=sgd --config.optim.learning_rate=0.01",
    },
    columns={
        "steps until off chance": "pretraining/steps_until_off_chance",
        "in sync or shifted": "pretraining/avs_accuracy",
        "own or another video's": "pretraining/avc_accuracy",
    },
    reference="plain",
    chance={"in sync or shifted": 0.5, "own or another video's": 0.5},
)
