"""CMAC on a TPU pod: R(2+1)D-18 and a ResNet of the log-mel spectrogram, on Kinetics or AudioSet.

python -m cmav.main --config=configs/cmac.py

Shards: python data_prep/build_tfrecords.py --videos DIR_OR_CSV --out data/shards --size 128 --frame_rate 30000/1001
The sizes are ours, of the field's usual protocols; nothing here has been trained at this size.
"""

import os

from cmav import config as cmav_config


def get_config():
    config = cmav_config.get_default("cmac")
    config.data.dir = os.environ.get("CMAV_DATA", "data/shards")
    config.phases = (dict(frame_rate=15.0, batch_size=1024, steps=200_000),)
    config.data.augment.crop_area = (0.3, 1.0)
    config.data.augment.brightness = 0.4
    config.data.augment.contrast = 0.4
    config.data.augment.saturation = 0.4
    config.data.augment.hue = 0.1
    config.data.augment.grey = 0.2
    config.data.augment.blur = 0.5
    config.data.augment.gain_db = (-6.0, 6.0)
    config.data.augment.audio_shift_seconds = 0.2
    config.model.audio.masks = 2
    config.model.remat = "encoders"
    config.model.hidden_size = 512
    config.cmac.learn_temperature = True
    config.optim.weight_decay = 1e-6
    return config
