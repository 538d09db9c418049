"""What networks have learned of sounds."""

from cmav.experiments.experiment import Experiment, Stage

_UNTRAINED = '--config.init.load="()"'

# Nothing is trained but the SVM, so only the untrained networks differ from seed to seed.
ESC10 = Experiment(
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
