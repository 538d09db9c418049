"""The same units of work on Apache Beam, for clusters that run Flink, Spark or Dataflow.

The cluster's workers need this package (with `cmav[beam]`) and must see the videos and the dataset folder under the
same paths. Each unit is done as on one machine, in a process that may die (see `workers.py`), so a file that crashes
its decoder costs that file and not the job.
"""

import shlex
from collections.abc import Sequence

from cmav.data.storage import words
from cmav.errors import UserError
from cmav.prep import shards, workers
from cmav.prep.plan_files import Unit


class BeamError(UserError):
    """Beam is not there, or its job failed."""


def run(units: Sequence[Unit], beam_args: str) -> None:
    """Does units of work on Beam, and waits for them.

    Args:
      units: what to do. Each is small: whoever does it reads its videos from the plan in the dataset folder.
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
                | "Shards" >> beam.Create(list(units))
                | "Spread" >> beam.Reshuffle()
                | "Build" >> beam.Map(build_shard)
            )
    except Exception as error:
        # Each runner has errors of its own: RuntimeError, DataflowRuntimeException, those of gRPC, ...
        raise BeamError(f"the Beam job failed ({type(error).__name__}): {words(error)}") from error


def build_shard(unit: Unit) -> int:
    """Builds one shard of a planned split. Returns its number."""
    workers.run([unit], shards.build, num_workers=1)
    return unit.shard
