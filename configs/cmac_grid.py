"""CMAC on one speaker of GRID (600 clips of 3 s), for two CPU cores: which sentence belongs to which lips?

python -m cmav.main --config=configs/cmac_grid.py

It starts from the encoders of a run of `configs/sync_grid.py`, which says how to build the data of both:
`--config.init.checkpoint=…`, by default runs/sync_grid. These are kept as they are: two cores cannot train them again,
on clips of this length, within minutes.
"""

from cmav import config as cmav_config
from cmav.configs import cmac_demo, sync_grid


def get_config():
    config, synchronized = cmac_demo.get_config(), sync_grid.get_config()
    config.data = synchronized.data
    config.data.clip_seconds = 2.4  # nearly the whole sentence
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2
    config.phases = (dict(frame_rate=25.0, batch_size=32, steps=300),)
    config.model = synchronized.model
    config.init.checkpoint = "runs/sync_grid"
    config.cmac.audio_consistency = 0.0  # The map of this audio encoder has no frequencies.
    config.optim.frozen = ("backbone",)
    config.optim.learning_rate = 1e-3
    config.checkpoint.every = 100
    config.evals.retrieval.every = 100
    config.evals.localization = synchronized.evals.localization
    config.evals.localization.methods = cmav_config.get_default("cmac").evals.localization.methods
    config.evals.localization.every = 300
    with config.unlocked():
        del config.evals.frequencies
    return config
