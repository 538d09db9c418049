"""The demo with the network of Owens and Efros at a small size: as many parameters, and nearly as many operations.

python -m cmav.main --config=configs/demo_multisensory.py

Data, steps and optimizer are those of configs/demo.py, whose network has 0.87M parameters and 0.22 GFLOPs a clip; this
one has 0.89M and 0.29 (`python -m cmav.describe`). The temporal alignment loss is off, for it compares tokens, and here
there are none: compare it with the demo without it, `--config.loss.alignment_weight=0.`.
"""

from cmav import config as cmav_config
from cmav.configs import demo


def get_config():
    return with_multisensory(demo.get_config())


def with_multisensory(config):
    """Changes a small config of synchronization so that its network is this one."""
    config.model.video = cmav_config.encoder("video", "multisensory", width=10)
    config.model.audio = cmav_config.encoder("audio", "multisensory", width=10)
    config.loss.alignment_weight = config.model.fusion_moments = 0.0
    config.evals.localization.methods = ("cam",)
    return config
