"""Synchronization: controls, what the number of videos brings, tokens, and what helps off the plateau."""

import dataclasses
from typing import Any

from etils import epath

from cmav.experiments.catalogue.paper import GRID_LONGER, NO_MAPS, PRETRAINING
from cmav.experiments.experiment import Experiment, Stage, Sweep
from cmav.training import summary
from configs import sync_grid

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
        "neither": f"{_GRID} --config.loss.alignment_weight=0. --config.model.fusion_moments=0.",
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

# The comparison of moments goes past attention and fusion, and would hide what these do. Without it they need longer.
_FUSED = f"{_GRID} {GRID_LONGER} --config.model.fusion_moments=0."
ATTENTION_GRID = dataclasses.replace(
    SYNC_GRID,
    question="What do attention in both directions, and more shifted sounds, buy on a talking face? By the fusion "
    "layers alone, in 2,000 steps; the last rows also compare moments, as the preset does.",
    arms={
        "CMA": _FUSED,
        "AGA": f"{_FUSED} --config.model.attention=aga",
        "VGA": f"{_FUSED} --config.model.attention=vga",
        "no attention": f"{_FUSED} --config.model.depth=0",
        "CMA, K = 4": f"{_FUSED} --config.data.num_shifted=3",
        "CMA, K = 4, softmax": f"{_FUSED} --config.data.num_shifted=3 --config.loss.softmax_weight=1.",
        "CMA, comparison of moments": f"{_FUSED} --config.model.fusion_moments=0.1",
        "no attention, comparison of moments": f"{_FUSED} --config.model.fusion_moments=0.1 --config.model.depth=0",
    },
    reference="CMA",
)

_VIDEOS = {"75": 75, "150": 150, "300": 300, "all 600": 0}
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
        f"{positions}, {fusion}": f"--config=configs/demo.py --config.model.positions={positions} "
        f"--config.model.fusion={fusion}"
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
_MOMENTS = "--config.model.fusion_moments=0.1"
_DEMO = "--config=configs/demo.py --config.evals.pretext.every=50"
_CURRICULUM = "--config=configs/demo_curriculum.py --config.evals.pretext.every=50"


def _batches(size: int) -> str:
    """As many clips as the demo's 700 steps of 16, warm-up and evaluations at the same clips."""
    steps, warm_up, every = (count * 16 // size for count in (700, 100, 50))
    return (
        f"--config=configs/demo.py {_PLAIN} --config.phases[0].batch_size={size} --config.phases[0].steps={steps} "
        f"--config.optim.warmup_steps={warm_up} --config.evals.pretext.every={every}"
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
        "plain": f"{_DEMO} {_PLAIN}",
        "alignment loss": _DEMO,
        "comparison of moments": f"{_DEMO} {_PLAIN} {_MOMENTS}",
        "comparison of moments, alignment loss": f"{_DEMO} {_MOMENTS}",
        "curriculum": f"{_CURRICULUM} {_PLAIN}",
        "curriculum, alignment loss": _CURRICULUM,
        "half other": _three_phases(0.5),
        "300 steps at half the frame rate": f"{_three_phases(0.0)} --config.phases[0].frame_rate=5. "
        "--config.phases[1].frame_rate=5.",
        "batch 8, 1,400 steps": _batches(8),
        "batch 32, 350 steps": _batches(32),
        "SGD": f"{_DEMO} {_PLAIN} --config.optim.name=sgd --config.optim.learning_rate=0.01",
    },
    columns={
        "steps until off chance": "pretraining/steps_until_off_chance",
        "in sync or shifted": "pretraining/avs_accuracy",
        "own or another video's": "pretraining/avc_accuracy",
    },
    reference="plain",
    chance={"in sync or shifted": 0.5, "own or another video's": 0.5},
)
