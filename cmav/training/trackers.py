"""Where a run's scalars and pictures go: TensorBoard always, and what `config.trackers` names beside it."""

import os
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from clu import metric_writers
from etils import epath
from ml_collections import ConfigDict

from cmav.errors import UserError


class WandbWriter(metric_writers.MetricWriter):
    """Weights & Biases. A run that goes on is the same run there, by the id in its folder; $WANDB_PROJECT counts."""

    def __init__(self, config: ConfigDict, workdir: str):
        try:
            import wandb  # Only here: who does not name it needs it not.
        except ImportError as error:
            raise UserError('config.trackers has "wandb", which is not installed: pip install wandb') from error
        self._wandb = wandb
        name, path = os.path.basename(workdir.rstrip("/")), epath.Path(workdir) / "wandb_id.txt"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(secrets.token_hex(8))
        run_id = path.read_text()
        project = os.environ.get("WANDB_PROJECT", "cmav")
        self._run = wandb.init(project=project, id=run_id, name=name, resume="allow", config=config.to_dict())

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        self._run.log({key: float(value) for key, value in scalars.items()}, step=step)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        shown = {key: [self._wandb.Image(np.asarray(image)) for image in batch] for key, batch in images.items()}
        self._run.log(shown, step=step)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._run.config.update(dict(hparams))

    def flush(self) -> None:
        pass  # It has a process of its own that writes.

    def close(self) -> None:
        self._run.finish()

    # Of these cmav writes none.

    def write_summaries(self, step, values, metadata=None):
        raise NotImplementedError

    def write_videos(self, step, videos):
        raise NotImplementedError

    def write_audios(self, step, audios, *, sample_rate):
        raise NotImplementedError

    def write_texts(self, step, texts):
        raise NotImplementedError

    def write_histograms(self, step, arrays, num_buckets=None):
        raise NotImplementedError

    def write_pointcloud(self, step, point_clouds, *, point_colors=None, configs=None):
        raise NotImplementedError


TRACKERS = {"wandb": WandbWriter}


def check(config: ConfigDict) -> None:
    """Raises UserError where `config.trackers` has one that is not known."""
    if unknown := [name for name in config.trackers if name not in TRACKERS]:
        raise UserError(f"config.trackers has {unknown[0]!r}: there is {', '.join(TRACKERS)}.")


def make_writer(config: ConfigDict, workdir: str, *, is_lead: bool) -> metric_writers.MetricWriter:
    """The writer of a run; of the processes only the lead writes.

    Raises:
      UserError: where a tracker is not installed.
    """
    if not is_lead:
        return metric_writers.AsyncMultiWriter([])
    also = [TRACKERS[name](config, workdir) for name in config.trackers]
    return metric_writers.AsyncMultiWriter([metric_writers.SummaryWriter(workdir), *also])
