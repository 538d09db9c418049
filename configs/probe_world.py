"""Frozen features of the synthetic world's videos, and a linear SVM on them: eight classes of motion and sound.

python -m cmav.evaluate --config=configs/probe_world.py --config.init.checkpoint=runs/cmac_demo

Data: as configs/finetune_world.py. Nothing is trained but the SVM; --config.action.mode=vision_only or audio_only takes
the features of one stream.
"""

from ml_collections import ConfigDict

from cmav.configs import finetune_world, probe_ucf101


def get_config():
    config = finetune_world.get_config()
    probe = probe_ucf101.get_config().evals.probe
    probe.layers = ("video/layer_*", "audio/layer_*")
    probe.cs = (1e-4, 1e-3, 1e-2, 1e-1)
    with config.unlocked():
        config.evals = ConfigDict({"probe": probe})
    return config
