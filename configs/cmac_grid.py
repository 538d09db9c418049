"""CMAC on one speaker of GRID (600 clips of 3 s), for two CPU cores: which sentence belongs to which lips?

python -m cmav.main --config=configs/cmac_grid.py

Data: $CMAV_DATA or data/grid_small, built from the corpus's speaker s1 (Cooke, Barker, Cunningham, Shao, 2006):
python data_prep/build_tfrecords.py --videos GRID/train --split train --out data/grid_small \
    --clip_seconds 2.9 --size 56 --frame_rate 25 --sample_rate 16000
python data_prep/build_tfrecords.py --videos GRID/validation --split validation --out data/grid_small \
    --clip_seconds 2.9 --size 56 --frame_rate 25 --sample_rate 16000
"""

import os

from cmav import config as cmav_config
from configs import cmac_demo


def get_config():
    config = cmac_demo.get_config()
    config.data.dir = os.environ.get("CMAV_DATA", "data/grid_small")
    config.data.stored_frame_rate = 25.0
    config.data.sample_rate = 16_000
    config.data.clip_seconds = 2.4
    config.data.crop_size = 52
    config.phases = (dict(frame_rate=25.0, batch_size=32, steps=1_000),)
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2

    config.model.video = cmav_config.encoder(
        "video",
        "conv3d",
        layers=(
            ("conv", 24, (5, 5, 5), (2, 4, 4)),
            ("conv", 48, (3, 3, 3), (1, 2, 2)),
            ("conv", 64, (3, 3, 3), (1, 1, 1)),
        ),
    )
    config.model.audio = cmav_config.encoder(
        "audio",
        "log_mel_2d",
        window_seconds=0.032,
        hop_seconds=0.01,
        mels=64,
        min_hz=60.0,
        width=16,
        blocks=(1, 1, 1),
        strides=((2, 2), (2, 2), (2, 2), (1, 1)),
        masks=1,
    )
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 100
    config.checkpoint.every = 250
    config.evals.retrieval.every = 250
    config.evals.localization.every = 1_000
    config.evals.localization.boxes = config.evals.localization.scenes = config.evals.frequencies.scenes = ""
    config.evals.frequencies.every = 1_000
    return config
