"""Fine-tuning on UCF101: "Look, Listen, and Attend", 2020, section 5 and Table 2.

python -m cmav.finetune --config=configs/finetune_ucf101.py --config.init.checkpoint=runs/avs_cma --splits=1,2,3

Data: $CMAV_DATA or data/ucf101, built by
python data_prep/build_tfrecords.py --dataset ucf101 --videos UCF-101 --lists ucfTrainTestlist --out data/ucf101

The paper reports 87.8% over three splits, 83.3% with vision only and 70.5% from scratch; we have not repeated that.
--config.action.mode=vision_only, or scratch.
"""

import os

from cmav import config as cmav_config


def get_config():
    config = cmav_config.get_default("action")
    config.data.dir = os.environ.get("CMAV_DATA", "data/ucf101")
    config.action.num_classes = 101
    config.action.mode = "full"
    config.data.clip_seconds = 2.56
    config.phases = (dict(frame_rate=29.97, batch_size=16, steps=30_000),)
    config.optim.name = "adam"
    config.optim.learning_rate = 3e-5
    config.optim.schedule = "halving"
    config.optim.halve_every = 10_000
    return config
