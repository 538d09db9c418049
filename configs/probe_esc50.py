"""Frozen features of ESC-50's sounds, and a linear SVM on them: five folds, each tested with the other four.

python -m cmav.evaluate --config=configs/probe_esc50.py --config.init.checkpoint=runs/avs_cma

Data: $CMAV_DATA or data/esc50, built by
python data_prep/build_tfrecords.py --dataset esc50 --videos ESC-50 --lists ESC-50/meta --out data/esc50

Built once, at any sample rate: the sound is resampled to what the network hears. C is chosen on the training folds
only: the best C of the test fold would flatter.
"""

import os

from cmav.configs import probe_ucf101


def get_config():
    config = probe_ucf101.get_config()
    config.data.dir = os.environ.get("CMAV_DATA", "data/esc50")
    config.data.eval_split = "folds"  # all of them; --split=fold1 tests one
    config.action.mode = "audio_only"
    config.action.num_classes = 50
    config.evals.probe.layers = ("audio/layer_*",)  # of the encoder: what it has learned of sound alone
    config.evals.probe.folds = ("fold1", "fold2", "fold3", "fold4", "fold5")
    return config
