"""Frozen features of DCASE2013's scenes, and a linear SVM on them: 60 clips of each recording of 30 s, as the peers.

python -m cmav.evaluate --config=configs/probe_dcase2013.py --config.init.checkpoint=runs/avs_cma

Data: $CMAV_DATA or data/dcase2013, built by
python data_prep/build_tfrecords.py --dataset dcase2013 --videos DCASE2013 --out data/dcase2013
"""

import os

from cmav.configs import probe_esc50


def get_config():
    config = probe_esc50.get_config()
    config.data.dir = os.environ.get("CMAV_DATA", "data/dcase2013")
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.action.num_classes = 10
    config.action.eval_clips = 60
    config.evals.probe.folds = ()
    return config
