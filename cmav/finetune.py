"""Fine-tuning for action recognition, from a pretrained network.

python -m cmav.finetune --config=configs/finetune_ucf101.py --config.init.checkpoint=runs/avs_cma
python -m cmav.finetune --config=configs/finetune_ucf101.py --splits=1,2,3      # a run for each, and their mean

Without --config it is configs/finetune_ucf101.py, and without a checkpoint the newest pretrained run in runs/. The
network is that of the pretrained run, whatever its config. Started again, the same command goes on where it was.
"""

from absl import flags
from ml_collections import ConfigDict

from cmav import cli, distributed


def main(config: ConfigDict, split_numbers: str | None) -> None:
    distributed.initialize(flags.FLAGS.distributed)
    # They import TensorFlow, and a mistyped flag should not wait for that.
    from cmav.training import finetune, splits

    workdir, overrides = cli.workdir(), cli.overrides()
    if split_numbers:
        finetune.finetune_splits(config, workdir, splits.parse(split_numbers), overrides)
    else:
        finetune.finetune(config, workdir, overrides)


if __name__ == "__main__":
    _CONFIG = cli.define_flags(default_config="configs/finetune_ucf101.py")
    _SPLITS = flags.DEFINE_string("splits", None, "Official splits, e.g. 1,2,3: a run on each, and their mean.")
    cli.run(lambda: main(cli.read_config(_CONFIG), _SPLITS.value))
