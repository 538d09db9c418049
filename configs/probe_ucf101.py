"""Frozen features of UCF101's videos, and a linear SVM on them: 10 clips of each video, as the peers.

python -m cmav.evaluate --config=configs/probe_ucf101.py --config.init.checkpoint=runs/avs_cma
python -m cmav.evaluate --config=configs/probe_ucf101.py --config.init.checkpoint=runs/avs_cma --splits=1,2,3

Data: as configs/finetune_ucf101.py. Nothing is trained but the SVM.
"""

import os

from ml_collections import ConfigDict

from cmav import config as cmav_config


def get_config():
    config = cmav_config.get_default("action")
    config.data.dir = os.environ.get("CMAV_DATA", "data/ucf101")
    config.action.num_classes = 101
    config.action.eval_clips = 10
    probe = ConfigDict()
    probe.type = "probe"
    probe.every = 5_000  # steps, where the probe looks on at a training
    probe.batch_size = 32  # views
    # Side by side, each averaged over the clip; see cmav/tasks/features.py. On the synthetic world these gave more than
    # "features", which are made to say whether sound and picture belong together.
    probe.layers = ("video/map", "audio/map")
    probe.cs = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the SVM, to choose from on training videos
    probe.folds = ()  # official splits to test each with the others; (): config.data.train_split and eval_split
    with config.unlocked():
        config.evals = ConfigDict({"probe": probe})
    return config
