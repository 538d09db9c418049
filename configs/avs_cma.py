"""AVS with co-attention (CMA), the paper to the letter: "Look, Listen, and Attend", 2020, Tables 1 and 3.

python -m cmav.main --config=configs/avs_cma.py

Data: 10 s clips in $CMAV_DATA or data/ (`python data_prep/build_tfrecords.py`). The paper trained on 240,000 clips of
AudioSet with four P100s, its first phase in 46 hours, and reports 65.3% (62.6% on the other test set); we have not
repeated that. 750,000 steps, 15M parameters.
"""

from cmav import config as cmav_config


def get_config():
    config = cmav_config.get_default()
    config.task = "avs"
    config.model.attention = "cma"
    config.model.depth = 1
    config.model.num_heads = 8
    config.data.clip_seconds = 4.2
    config.data.shift_seconds = (2.0, 5.8)
    # A warm-up at a quarter of the frame rate, then the full rate.
    config.phases = (
        dict(frame_rate=7.5, batch_size=64, steps=100_000),
        dict(frame_rate=29.97, batch_size=32, steps=650_000),
    )
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-5
    return config
