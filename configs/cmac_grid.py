"""CMAC on one speaker of GRID (600 clips of 3 s): which sentence belongs to which lips?

python -m cmav.main --config=configs/cmac_grid.py

Data: $CMAV_DATA or data/grid, built from the corpus's speaker s1 (Cooke, Barker, Cunningham, Shao, 2006):
python data_prep/build_tfrecords.py --videos GRID/train --split train --out data/grid \
    --clip_seconds 2.9 --size 96 --frame_rate 25 --sample_rate 16000
python data_prep/build_tfrecords.py --videos GRID/validation --split validation --out data/grid \
    --clip_seconds 2.9 --size 96 --frame_rate 25 --sample_rate 16000
"""

import os

from cmav import config as cmav_config
from configs import cmac_demo


def get_config():
    config = cmac_demo.get_config()
    config.data.dir = os.environ.get("CMAV_DATA", "data/grid")
    config.data.stored_frame_rate = 25.0
    config.data.sample_rate = 16_000
    config.data.clip_seconds = 2.4
    config.data.crop_size = 88
    config.phases = (dict(frame_rate=25.0, batch_size=32, steps=1_200),)
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2

    config.model.video = cmav_config.encoder(
        "video",
        "conv3d",
        layers=(
            ("conv", 24, (5, 7, 7), (1, 4, 4)),
            ("conv", 48, (3, 3, 3), (2, 2, 2)),
            ("conv", 64, (3, 3, 3), (1, 2, 2)),
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
    config.checkpoint.every = 400
    config.evals.retrieval.every = 400
    config.evals.localization.every = 1_200
    config.evals.localization.boxes = config.evals.localization.scenes = config.evals.frequencies.scenes = ""
    config.evals.frequencies.every = 1_200
    return config
