"""Pretraining.

python -m cmav.main --config=configs/avs_cma.py

Started again, the same command goes on where it was.
"""

# Kept short: the logic is in `train.py`, where it can be tested.

from absl import flags, logging

from cmav import cli, distributed

_CONFIG = cli.define_flags()


def main() -> int | None:
    config = cli.read_config(_CONFIG)
    distributed.initialize(flags.FLAGS.distributed)
    from cmav import train  # Imports TensorFlow, and a mistyped flag should not wait for that.

    try:
        train.train(config, cli.workdir())
    except train.Preempted as stop:
        logging.info("%s", stop)
        return 128 + 15  # As a process that SIGTERM ended, so that a scheduler starts the job again.


if __name__ == "__main__":
    cli.run(main)
