"""The same units of work on Apache Beam, for clusters that run Flink, Spark or Dataflow.

The cluster's workers need this package (with `cmav[beam]`) and must see the videos and the dataset folder under the
same paths. Each unit is done as on one machine, in a process that may die (see `workers.py`), so a file that crashes
its decoder costs that file and not the job.
"""

import shlex
from collections.abc import Sequence

from cmav.errors import UserError
from data_prep import plan, shards, workers


class BeamError(UserError):
    """Beam is not there, or its job failed."""


def run(folder: str, root: str, split: str, numbers: Sequence[int], beam_args: str) -> None:
    """Builds shards of a planned split on Beam, and waits for them.

    Args:
      folder: the dataset folder; it holds the split's plan.
      root: the folder that the videos' relative paths start from.
      split: the split.
      numbers: of the shards to build.
      beam_args: flags for Beam, in one text. The default is Beam's local runner.

    Raises:
      BeamError: where Beam is not installed or the job fails.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise BeamError("--runner beam needs Apache Beam: pip install 'cmav[beam]'") from error
    try:
        with beam.Pipeline(options=PipelineOptions(shlex.split(beam_args))) as pipeline:
            (
                pipeline
                | "Shards" >> beam.Create(list(numbers))
                | "Spread" >> beam.Reshuffle()
                | "Build" >> beam.Map(build_shard, folder=folder, root=root, split=split)
            )
    except RuntimeError as error:
        raise BeamError(f"the Beam job failed: {error}") from error


def build_shard(shard: int, folder: str, root: str, split: str) -> int:
    """Builds one shard of a planned split. Returns its number."""
    workers.run([plan.load(folder, split).unit(shard, folder, root)], shards.build, num_workers=1)
    return shard
