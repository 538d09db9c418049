"""The rival that the paper compares itself with, trained in the same way: Multisensory (Owens and Efros, 2018).

python -m cmav.main --config=configs/avs_multisensory.py

Data and steps as configs/avs_cma.py. Both streams are one map early in the network, and most of it is of that: 36M
parameters. The paper's Table 1 has 60.2% (59.5% on the other test set) where it was trained again, and 59.9% (59.3%)
with the weights of its authors; we have not repeated that.
"""

from cmav import config as cmav_config
from cmav.configs import avs_cma


def get_config():
    config = avs_cma.get_config()
    config.model.video = cmav_config.encoder("video", "multisensory")
    config.model.audio = cmav_config.encoder("audio", "multisensory")
    config.data.flip = True  # Its authors mirror clips, and clip gradients.
    config.optim.clip_norm = 5.0
    config.evals.localization.methods = ("cam",)
    return config
