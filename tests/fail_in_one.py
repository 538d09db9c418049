"""Trains the tiny config in processes of which one alone fails: `python tests/fail_in_one.py RANK WORKDIR`."""

import jax
from absl import flags

from cmav import cli, distributed
from cmav.errors import UserError
from cmav.training import train
from tests import tiny_config


def main(arguments: list[str]) -> None:
    distributed.initialize(flags.FLAGS.distributed)
    rank, workdir = arguments
    write_metrics = train.Trainer._write_metrics

    def fail(self, step, task):
        write_metrics(self, step, task)
        if step == 5 and jax.process_index() == int(rank):
            raise UserError("its disk is gone")

    train.Trainer._write_metrics = fail
    train.train(tiny_config.get_config(), workdir)


if __name__ == "__main__":
    cli.define_flags()
    cli.run(main, takes_arguments=True)
