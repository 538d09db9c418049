"""CMAC at a small size on synthesized videos, for two CPU cores: `make cmac` (synthesizes, builds, trains, evaluates).

python -m cmav.main --config=configs/cmac_demo.py
"""

import os

from cmav import config as cmav_config


def get_config():
    config = cmav_config.get_default("cmac")
    config.data.dir = os.environ.get("CMAV_DATA", "data/cmac/shards")
    config.data.stored_frame_rate = 10.0
    config.data.sample_rate = 8_000
    config.data.clip_seconds = 4.0
    config.data.crop_size = 40
    config.phases = (dict(frame_rate=10.0, batch_size=32, steps=600),)
    config.data.augment.gain_db = (-6.0, 6.0)
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2

    config.model.video = cmav_config.encoder(
        "video",
        "conv3d",
        layers=(
            ("conv", 24, (3, 5, 5), (1, 4, 4)),
            ("conv", 48, (3, 3, 3), (2, 1, 1)),
            ("conv", 64, (3, 3, 3), (1, 1, 1)),
        ),
    )
    config.model.audio = cmav_config.encoder(
        "audio",
        "log_mel_2d",
        window_seconds=0.064,
        hop_seconds=0.02,
        mels=40,
        min_hz=60.0,
        width=16,
        blocks=(1, 1, 1),
        strides=((2, 2), (1, 1), (2, 2), (2, 1)),
        masks=1,
    )
    config.model.hidden_size = 128
    config.model.num_heads = 4
    config.model.batch_norm_momentum = 0.9
    config.model.dtype = "float32"
    config.model.remat = "none"
    config.cmac.hidden_size = 256
    config.optim.name = "adam"
    config.optim.learning_rate = 2e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 50
    config.log_every = 20
    config.checkpoint.every = 200
    config.evals.retrieval.every = 200
    config.evals.localization.every = 300
    config.evals.localization.batch_size = 16
    config.evals.frequencies.every = 300
    if "CMAV_DATA" not in os.environ:  # Of other videos these are not the boxes.
        config.evals.localization.boxes = "data/cmac/videos/vggss.json"
        config.evals.localization.scenes = "data/cmac/videos"
        config.evals.frequencies.scenes = "data/cmac/videos"
    return config
