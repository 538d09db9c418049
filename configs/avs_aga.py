"""Ablation: audio-guided attention only, the video stream attends with queries from the audio. The paper: 61.9%.

python -m cmav.main --config=configs/avs_aga.py
"""

from cmav.configs import avs_cma


def get_config():
    config = avs_cma.get_config()
    config.model.attention = "aga"
    return config
