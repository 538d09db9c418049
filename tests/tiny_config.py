"""A network and clips so small that a step takes milliseconds; two phases, as the paper has. Data: $CMAV_DATA."""

from cmav import config as cmav_config

CLIPS = dict(seconds=5.0, size=20, frame_rate=10.0, sample_rate=1000)


def get_config():
    config = cmav_config.get_default()
    config.phases = (
        dict(frame_rate=5.0, batch_size=8, steps=6),
        dict(frame_rate=10.0, batch_size=8, steps=6),
    )
    config.data.clip_seconds = 2.0
    config.data.shift_seconds = (1.0, 3.0)
    config.evals.pretext.every = 100
    config.evals.pretext.batch_size = 8
    with config.unlocked():  # Its tests are its own: it would take every other one seconds to compile.
        del config.evals.localization
    return _shrink(config)


def get_action_config():
    """Fine-tuning from scratch, on the splits "train1" and "test1"."""
    config = cmav_config.get_default("action")
    config.phases = (dict(frame_rate=10.0, batch_size=8, steps=6),)
    config.init.checkpoint = ""
    config.data.clip_seconds = 1.0
    config.action.hidden_size = 16
    config.action.eval_clips = 4
    config.evals.action.every = 100
    config.evals.action.batch_size = 8
    return _shrink(config)


def get_cmac_config():
    """Maps of 5 times of 2 by 2 places, and of 16 times of 8 frequencies; evaluated by retrieval."""
    config = cmav_config.get_default("cmac")
    config.phases = (dict(frame_rate=10.0, batch_size=8, steps=6),)
    config.data.clip_seconds = 1.0
    config.cmac.embed_size = 8
    config.cmac.hidden_size = 16
    config.optim.warmup_steps = 0
    config.evals.retrieval.every = 100
    config.evals.retrieval.batch_size = 8
    with config.unlocked():  # As above.
        del config.evals.localization
        del config.evals.frequencies
    _shrink(config)
    config.model.audio = cmav_config.encoder(
        "audio",
        "log_mel_2d",
        window_seconds=0.064,
        hop_seconds=0.032,
        mels=8,
        width=4,
        blocks=(1,),
        strides=((2, 1), (1, 1)),
    )
    return config


def _shrink(config):
    config.data.stored_frame_rate = CLIPS["frame_rate"]
    config.data.sample_rate = CLIPS["sample_rate"]
    config.data.crop_size = 16
    config.data.num_threads = 2
    video_layers = (
        ("conv", 8, (3, 3, 3), (1, 2, 2)),
        ("pool", (1, 3, 3), (1, 2, 2)),
        ("conv", 16, (3, 3, 3), (2, 2, 2)),
    )
    audio_layers = (
        ("conv", 8, (25,), (5,)),
        ("conv", 16, (15,), (4,)),
        ("pool", (4,), (4,)),
        ("conv", 16, (3,), (2,)),
    )
    config.model.video = cmav_config.encoder("video", "conv3d", layers=video_layers)
    config.model.audio = cmav_config.encoder("audio", "conv1d", layers=audio_layers)
    config.model.hidden_size = 32
    config.model.mlp_size = 64
    config.model.num_heads = 4
    config.model.batch_norm_momentum = 0.9
    config.model.dtype = "float32"
    config.optim.name = "adam"
    config.optim.learning_rate = 2e-3
    config.log_every = 1
    config.checkpoint.every = 2
    config.checkpoint.keep = 3
    return config
