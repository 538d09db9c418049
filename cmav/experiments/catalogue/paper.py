"""The tables of "Look, Listen, and Attend" (2020), on data that anyone can make; the paper's numbers stand beside ours.

These are of AudioSet, UCF101 and HMDB51, by networks of 15 to 36 million parameters: they say which arm was the better
there, not what ours should come to.
"""

import dataclasses

from cmav.experiments.catalogue.actions import LABEL_BUDGETS
from cmav.experiments.experiment import NO_SWEEP, Experiment, Stage

# Where the sound is is not asked: it takes as long as all other evaluations together.
NO_MAPS = "--config.evals.localization.every=0"
PRETRAINING = "cmav.main {arm} {value} --workdir={run}/pretraining --config.seed={seed}"

# The comparison of moments goes past attention and fusion, and would hide what these do. Said here, so that these
# experiments stay what they are whatever the demo's defaults: with the alignment loss so many steps are enough, and for
# configs/sync_grid.py its own are.
DEMO_LONGER = "--config.phases[0].steps=700"
FUSION_ALONE = "--config.model.fusion_moments=0."
FUSED_DEMO = f"--config=configs/demo.py {DEMO_LONGER} {FUSION_ALONE}"


def _networks(ours: str, multisensory: str) -> dict[str, str]:
    """The arms of Table 1 with these configs.

    Multisensory has no tokens that the alignment loss could compare. Ours have it, for without it all may stay at
    chance, but for an arm that is Multisensory's equal.
    """
    return {
        "Multisensory": multisensory,
        "CMA, the paper's loss": f"{ours} --config.loss.alignment_weight=0.",
        "no attention": f"{ours} --config.model.depth=0",
        "AGA": f"{ours} --config.model.attention=aga",
        "VGA": f"{ours} --config.model.attention=vga",
        "CMA": ours,
    }


TABLE1 = Experiment(
    question="Does attention in both directions tell in sync from shifted better than in one, than none, and than "
    "early fusion (the paper's Table 1)? By the fusion layers alone, in as many steps; with the alignment loss but for "
    "the first two rows.",
    setup="`make data/demo/shards/index-validation.npy`",
    stages={"pretraining": Stage(f"{PRETRAINING} {NO_MAPS}", "pretraining/summary.json")},
    arms=_networks(FUSED_DEMO, f"--config=configs/demo_multisensory.py {DEMO_LONGER}"),
    columns={"accuracy": "pretraining/avs_accuracy"},
    reference="CMA",
    # Its rows of networks that were trained on AudioSet-240K.
    published={
        "paper, AudioSet-750K": {"Multisensory": 0.602, "AGA": 0.619, "VGA": 0.626, "CMA, the paper's loss": 0.653},
        "paper, AudioSet-240K": {"Multisensory": 0.595, "AGA": 0.613, "VGA": 0.620, "CMA, the paper's loss": 0.626},
    },
    chance={"accuracy": 0.5},
)

_FUSED_GRID = f"--config=configs/sync_grid.py {FUSION_ALONE}"
TABLE1_GRID = dataclasses.replace(
    TABLE1,
    question="The same (the paper's Table 1) on one talking face; and by how much is the sound off? The last rows: "
    "what more shifted sounds buy, and attention where the head also compares moments, as the preset does.",
    setup="configs/sync_grid.py says how to build it",
    arms={
        **_networks(_FUSED_GRID, "--config=configs/sync_grid_multisensory.py"),
        "CMA, K = 4": f"{_FUSED_GRID} --config.data.num_shifted=3",
        "CMA, K = 4, softmax": f"{_FUSED_GRID} --config.data.num_shifted=3 --config.loss.softmax_weight=1.",
        "no attention, comparison of moments": "--config=configs/sync_grid.py --config.model.depth=0",
    },
    columns={
        "accuracy": "pretraining/avs_accuracy",
        "within 1 frame": "pretraining/within_1_frame",
        "within 2 frames": "pretraining/within_2_frames",
    },
)

TABLE2 = dataclasses.replace(
    LABEL_BUDGETS,
    question="What does pretraining add to action recognition, and what the sound (the paper's Table 2)? Top-1 "
    "accuracy on held-out videos of eight actions; each seed has another of the three official splits.",
    arms={arm: flags for arm, flags in LABEL_BUDGETS.arms.items() if arm not in LABEL_BUDGETS.instead},
    sweep=NO_SWEEP,  # All labels are the config's default.
    instead={},
    published={
        "paper, UCF101": {"scratch": 0.705, "vision only": 0.833, "full": 0.878},
        "paper, HMDB51": {"scratch": 0.448, "vision only": 0.519, "full": 0.582},
    },
)

# By depth (L) and heads (A): synchronization on AudioSet, and fine-tuning.
_PAPERS_SIZES = {
    (1, 4): (0.642, 0.856, 0.570),
    (1, 8): (0.653, 0.878, 0.582),
    (1, 16): (0.646, 0.874, 0.579),
    (2, 4): (0.641, 0.845, 0.551),
    (2, 8): (0.648, 0.868, 0.569),
    (2, 16): (0.643, 0.859, 0.566),
}
_SIZES = {(depth, heads): f"L = {depth}, A = {heads}" for depth, heads in _PAPERS_SIZES}

TABLE3 = dataclasses.replace(
    TABLE1,
    question="How deep, and how many heads (the paper's Table 3)? By the fusion layers alone, with the alignment loss.",
    arms={
        arm: f"{FUSED_DEMO} --config.model.depth={depth} --config.model.num_heads={heads}"
        for (depth, heads), arm in _SIZES.items()
    },
    reference=_SIZES[1, 8],
    published={
        heading: {arm: _PAPERS_SIZES[size][place] for size, arm in _SIZES.items()}
        for place, heading in enumerate(("paper, AudioSet", "paper, UCF101", "paper, HMDB51"))
    },
)
