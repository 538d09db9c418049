"""Pretraining.

python -m cmav.main --config=configs/avs_cma.py

Started again, the same command goes on where it was.
"""

# Kept short: the logic is in `train.py`, where it can be tested.

from absl import flags

from cmav import cli, distributed

_CONFIG = cli.define_flags()


def main() -> None:
    config = cli.read_config(_CONFIG)
    distributed.initialize(flags.FLAGS.distributed)
    # It imports TensorFlow, and a mistyped flag should not wait for that.
    from cmav.training import train

    train.train(config, cli.workdir())


if __name__ == "__main__":
    cli.run(main)
