"""A small network on synthesized videos, for two CPU cores: `make demo` (synthesizes, builds, trains, evaluates).

python -m cmav.main --config=configs/demo.py

The paper's network and task at a smaller size: 40 pixels and 10 Hz instead of 224 and 29.97, narrower encoders. What
differs from the paper besides is what minutes instead of days ask for: Adam, and the temporal alignment loss.
"""

import os

from cmav import config as cmav_config


def get_config():
    config = cmav_config.get_default()
    config.data.dir = os.environ.get("CMAV_DATA", "data/demo/shards")
    config.data.stored_frame_rate = 10.0
    config.data.sample_rate = 8_000
    config.data.crop_size = 40
    config.data.flip = True
    config.phases = (dict(frame_rate=10.0, batch_size=16, steps=700),)

    config.model.video.layers = (
        ("conv", 24, (3, 5, 5), (1, 4, 4)),
        ("conv", 48, (3, 3, 3), (2, 2, 2)),
        ("conv", 64, (3, 3, 3), (2, 2, 2)),
    )
    config.model.audio.layers = (
        ("conv", 16, (65,), (4,)),
        ("pool", (4,), (4,)),
        ("conv", 32, (15,), (4,)),
        ("conv", 64, (15,), (4,)),
        ("conv", 64, (15,), (4,)),
        ("pool", (3,), (3,)),
        ("conv", 64, (3,), (1,)),
    )
    config.model.fusion_tokens = 11
    config.model.hidden_size = 128
    config.model.mlp_size = 256
    config.model.num_heads = 4
    config.model.batch_norm_momentum = 0.9
    config.model.dtype = "float32"
    config.model.remat = "none"
    config.optim.name = "adam"
    config.optim.learning_rate = 5e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 100
    config.loss.alignment_weight = 0.5
    config.log_every = 20
    config.checkpoint.every = 200
    config.evals.pretext.every = 100
    config.evals.pretext.batch_size = 16
    config.evals.pretext.pairs_per_clip = 2
    config.evals.localization.every = 350
    config.evals.localization.batch_size = 16
    config.evals.localization.methods = ("alignment", "similarity", "attention", "cam")
    config.evals.localization.stride = 4
    if "CMAV_DATA" not in os.environ:  # Of other videos these are not the boxes.
        config.evals.localization.boxes = "data/demo/videos/vggss.json"
        config.evals.localization.scenes = "data/demo/videos"
    return config
