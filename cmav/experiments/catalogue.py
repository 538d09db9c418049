"""The experiments by name."""

import dataclasses

from cmav.experiments.experiment import Experiment, Stage
from configs import sync_grid

# Of the demo two thirds of the steps, of half as long clips.
_SHORTER = (
    "--config.data.clip_seconds=2.0 --config.phases[0].steps=400 --config.checkpoint.every=400 "
    "--config.evals.retrieval.every=400 --config.evals.localization.every=400 --config.evals.frequencies.every=400"
)

_CMAC_PARTS = Experiment(
    question="Which part of CMAC helps with what? On the synthetic world of `make cmac`.",
    setup="`make cmac-data actions-data`",
    stages={
        "pretraining": Stage(
            "cmav.main --config=configs/cmac_demo.py --workdir={run}/pretraining --config.seed={seed} "
            f"{_SHORTER} {{arm}}",
            "pretraining/summary.json",
        ),
        "off-screen": Stage(
            "cmav.evaluate --config=configs/cmac_demo.py --workdir={run}/pretraining --split=offscreen "
            "--config.data.clip_seconds=2.0 --config.data.dir=data/cmac/offscreen/shards "
            "--config.evals.localization.boxes=data/cmac/offscreen/vggss.json "
            "--config.evals.localization.scenes=data/cmac/offscreen "
            "--config.evals.frequencies.scenes=data/cmac/offscreen",
            "pretraining/eval_offscreen_*.json",
        ),
        "video probe": Stage(
            "cmav.evaluate --config=configs/probe_world.py --workdir={run}/video_probe --config.seed={seed} "
            "--config.init.checkpoint={run}/pretraining --config.action.mode=vision_only --config.action.eval_clips=4 "
            "--config.evals.probe.layers=\"('video/layer_*',)\"",
            "video_probe/eval_test1_0.json",
        ),
        "audio probe": Stage(
            "cmav.evaluate --config=configs/probe_world.py --workdir={run}/audio_probe --config.seed={seed} "
            "--config.init.checkpoint={run}/pretraining --config.action.mode=audio_only --config.action.eval_clips=4 "
            "--config.evals.probe.layers=\"('audio/layer_*',)\"",
            "audio_probe/eval_test1_0.json",
        ),
    },
    arms={
        arm: f"--config.cmac.negatives={negatives} --config.cmac.video_consistency={video}. "
        f"--config.cmac.audio_consistency={audio}. {more}"
        for arm, negatives, video, audio, more in (
            ("untrained", "none", 0, 0, "--config.optim.learning_rate=0. --config.phases[0].steps=20"),
            ("contrast", "none", 0, 0, ""),
            ("+ within", "within", 0, 0, ""),
            ("+ visual consistency", "none", 1, 0, ""),
            ("+ audio consistency", "none", 0, 1, ""),
            ("all", "within", 1, 1, ""),
        )
    },
    columns={
        "R@1 video→audio": "pretraining/video_to_audio_r1",
        "R@1 audio→video": "pretraining/audio_to_video_r1",
        "pixel AP guided": "pretraining/guided_pixel_ap",
        "pixel AP pure": "pretraining/pure_pixel_ap",
        "band AUC guided": "pretraining/guided_band_auc",
        "band AUC pure": "pretraining/pure_band_auc",
        "told apart guided": "off-screen/guided_told_apart",
        "told apart energy": "off-screen/energy_told_apart",
        "video probe": "video probe/top1",
        "audio probe": "audio probe/top1",
    },
    reference="contrast",
)


_NO_CONSISTENCY = "--config.cmac.video_consistency=0."

_CMAC_GRID = Experiment(
    question="Does CMAC find the lips of a sentence among 100, and the sentence of lips?",
    setup="`python -m cmav.main --config=configs/sync_grid.py`, in whose file it says how to build the data",
    stages={
        "pretraining": Stage(
            "cmav.main --config=configs/cmac_grid.py --workdir={run}/pretraining --config.seed={seed} {arm}",
            "pretraining/summary.json",
        ),
    },
    arms={
        "contrast": f"{_NO_CONSISTENCY} --config.cmac.negatives=none",
        "+ within": _NO_CONSISTENCY,
        "+ within, + visual consistency": "",
        "the same, from scratch": '--config.init.checkpoint= --config.optim.frozen="()" --config.phases[0].steps=1000',
    },
    columns={
        "R@1 video→audio": "pretraining/video_to_audio_r1",
        "R@1 audio→video": "pretraining/audio_to_video_r1",
        "R@5 video→audio": "pretraining/video_to_audio_r5",
        "R@5 audio→video": "pretraining/audio_to_video_r5",
    },
    reference="contrast",
)

_MOUTH = ",".join(map(str, sync_grid.MOUTH)).join("()")  # without spaces, which would end the argument
_SYNC_GRID = Experiment(
    question="Are sound and picture of a talking face aligned? AVS on one speaker; of both shifted nobody can know.",
    setup="configs/sync_grid.py says how to build it",
    stages={
        "pretraining": Stage(
            "cmav.main --config=configs/sync_grid.py --workdir={run}/pretraining --config.seed={seed} {arm}",
            "pretraining/summary.json",
        ),
    },
    arms={
        "as the preset": "",
        "no alignment loss": "--config.loss.alignment_weight=0.",
        "both shifted": "--config.data.shift_both=True",
        "mouth covered": f"--config.data.covered=({_MOUTH},)",
        "only the mouth": f"--config.data.shown=({_MOUTH},)",
    },
    columns={
        "accuracy": "pretraining/avs_accuracy",
        "within 1 frame": "pretraining/within_1_frame",
        "within 2 frames": "pretraining/within_2_frames",
        "median error ms": "pretraining/median_error_ms",
    },
    reference="as the preset",
)

_ATTENTION_GRID = dataclasses.replace(
    _SYNC_GRID,
    question="What do attention in both directions, and more shifted sounds, buy on a talking face?",
    arms={
        "CMA": "",
        "AGA": "--config.model.attention=aga",
        "VGA": "--config.model.attention=vga",
        "no attention": "--config.model.depth=0",
        "CMA, K = 4": "--config.data.num_shifted=3",
        "CMA, K = 4, softmax": "--config.data.num_shifted=3 --config.loss.softmax_weight=1.",
    },
    reference="CMA",
)

_UNTRAINED = '--config.init.load="()"'

# Nothing is trained but the SVM, so only the untrained networks differ from seed to seed.
_ESC10 = Experiment(
    question="What have networks learned of sounds that they were not trained on? ESC-10, five official folds, linear "
    "SVM on frozen layers of the audio encoder.",
    setup="docs/results.md says how to build it",
    stages={
        "probe": Stage(
            "cmav.evaluate --config=configs/probe_esc50.py --workdir={run}/probe --config.seed={seed} "
            "--config.data.dir=data/esc10 --config.action.num_classes=10 {arm}",
            "probe/eval_folds_0.json",
        ),
    },
    arms={
        "log-mel statistics": f"--config.init.checkpoint= {_UNTRAINED} --config.evals.probe.layers=\"('log_mel',)\"",
        "untrained, as GRID's": f"--config.init.checkpoint=runs/sync_grid {_UNTRAINED}",
        "GRID": "--config.init.checkpoint=runs/sync_grid",
        "untrained, as the demo's": f"--config.init.checkpoint=runs/demo {_UNTRAINED}",
        "demo": "--config.init.checkpoint=runs/demo",
    },
    columns={"accuracy": "probe/top1"},
    reference="log-mel statistics",
)


def _negatives(*shares: float) -> str:
    """Shares of other videos in the three phases; shifted is as the demo shifts."""
    flags = [f"--config.phases[{number}].other_share={share}" for number, share in enumerate(shares)]
    return " ".join([*flags, "--config.phases[1].shift_seconds=(2.0,5.8)"])


_PLATEAU = Experiment(
    question="Do negatives of other videos help synchronization off its plateau, at which pairs are judged by chance?",
    setup="`make demo` makes it",
    stages={
        "pretraining": Stage(
            "cmav.main --config=configs/demo_curriculum.py --workdir={run}/pretraining --config.seed={seed} {arm}",
            "pretraining/summary.json",
        ),
    },
    arms={
        f"{negatives}{name}": f"{flags} {loss}".strip()
        for name, loss in (("", "--config.loss.alignment_weight=0."), (" + alignment loss", ""))
        for negatives, flags in (
            ("shifted", _negatives(0.0, 0.0, 0.0)),
            ("half other", _negatives(0.5, 0.5, 0.5)),
            ("other", _negatives(1.0, 1.0, 1.0)),
            ("curriculum", ""),
        )
    },
    columns={
        "in sync or shifted": "pretraining/avs_accuracy",
        "own or another video's": "pretraining/avc_accuracy",
    },
    reference="shifted",
)

EXPERIMENTS = {
    "cmac_parts": _CMAC_PARTS,
    "cmac_grid": _CMAC_GRID,
    "sync_grid": _SYNC_GRID,
    "attention_grid": _ATTENTION_GRID,
    "esc10": _ESC10,
    "plateau": _PLATEAU,
}
