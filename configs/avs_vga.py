"""Ablation: visual-guided attention only, the audio stream attends with queries from the video. The paper: 62.6%.

python -m cmav.main --config=configs/avs_vga.py
"""

from cmav.configs import avs_cma


def get_config():
    config = avs_cma.get_config()
    config.model.attention = "vga"
    config.evals.localization.methods = ("cam",)  # The audio guides no attention here.
    return config
