"""What pretraining saves in labels."""

from cmav.experiments.experiment import Experiment, Stage, Sweep

# Of a run all but its weights is the same in every arm: the official split, and what its seed draws, which are the
# labelled videos, the weights that are not loaded, and the order of training.
_RUN = (
    "--workdir={run}/training --config.init.checkpoint=runs/demo --config.seed={seed} "
    "--config.data.train_split=train{split} --config.data.eval_split=test{split} {value}"
)

LABEL_BUDGETS = Experiment(
    question="How many labels does pretraining save? Top-1 accuracy on held-out videos of eight actions; each seed "
    "has another of the three official splits.",
    setup="`make demo actions-data`; it is the demo's network that is fine-tuned",
    stages={
        "training": Stage(
            # Only what a run comes to is of interest.
            f"cmav.finetune --config=configs/finetune_world.py {_RUN} --config.evals.action.every=300 {{arm}}",
            "training/summary.json",
        ),
    },
    instead={
        "frozen probe": {
            "training": Stage(f"cmav.evaluate --config=configs/probe_world.py {_RUN}", "training/eval_test*_0.json")
        }
    },
    arms={
        "scratch": "--config.action.mode=scratch",
        "vision only": "--config.action.mode=vision_only",
        "full": "--config.action.mode=full",
        "frozen probe": "",
    },
    sweep=Sweep(
        "labelled videos per class",
        {
            **{str(count): f"--config.action.videos_per_class={count}" for count in (1, 5, 20)},
            "all": "--config.action.videos_per_class=0",
        },
    ),
    columns={"top-1 accuracy": "training/top1"},
    reference="full",
    chance={"top-1 accuracy": 1 / 8},
)
