"""Fine-tuning on the action classes of a synthetic world, for two CPU cores: eight, told apart by motion and sound.

python -m cmav.finetune --config=configs/finetune_world.py --config.init.checkpoint=runs/demo

Data: videos of another seed than the demo's, so that pretraining has seen none of them.
python data_prep/synthesize_videos.py --out data/actions/videos --num_videos 400 --seed 1
python data_prep/build_tfrecords.py --dataset ucf101 --videos data/actions/videos/videos --lists data/actions/videos \
    --out data/actions/shards --size 48 --frame_rate 10 --sample_rate 8000
"""

import os

from cmav import config as cmav_config
from cmav.configs import demo


def get_config():
    config = cmav_config.get_default("action")
    network = demo.get_config()
    config.model = network.model
    for key in ("stored_frame_rate", "sample_rate", "crop_size"):
        config.data[key] = network.data[key]
    config.data.dir = os.environ.get("CMAV_DATA", "data/actions/shards")
    config.data.clip_seconds = 2.5
    config.action.hidden_size = 64
    config.action.eval_clips = 10
    config.action.standardise = True
    config.phases = (dict(frame_rate=10.0, batch_size=16, steps=300),)
    config.optim.learning_rate = 2e-3
    config.optim.multipliers = (("backbone", 0.3),)
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 20
    config.log_every = 20
    config.checkpoint.every = 300
    config.checkpoint.keep = 1
    config.evals.action.every = 150
    return config
