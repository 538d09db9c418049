"""What the parts of CMAC are for."""

from cmav.experiments.experiment import Experiment, Stage

# Of the demo two thirds of the steps, of half as long clips.
_SHORTER = (
    "--config.data.clip_seconds=2.0 --config.phases[0].steps=400 --config.checkpoint.every=400 "
    "--config.evals.retrieval.every=400 --config.evals.localization.every=400 --config.evals.frequencies.every=400"
)

CMAC_PARTS = Experiment(
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

CMAC_GRID = Experiment(
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
