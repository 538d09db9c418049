"""Every default, in one place. A file in `configs/` starts from these and says only what differs.

The defaults of the network and its training are the paper's ("Look, Listen, and Attend", 2020) where it says something;
`docs/paper.md` has each of its statements beside our reading and the key here.
"""

import os

from ml_collections import ConfigDict

# Layers of the encoders, in order. A convolution is ("conv", features, kernel, stride), each followed by BatchNorm
# and ReLU; an average pool is ("pool", kernel, stride). Kernels and strides are (time, height, width) for video and
# (time,) for audio. SAME padding. A layer may end with a dilation, of as many numbers; `cmav.models.layers.finer` makes
# such layers, for finer maps of a network that is trained.
PAPER_VIDEO_LAYERS = (
    ("conv", 64, (5, 7, 7), (1, 1, 1)),
    ("pool", (1, 3, 3), (1, 2, 2)),
    ("conv", 64, (3, 3, 3), (2, 2, 2)),
    ("conv", 64, (3, 3, 3), (2, 2, 2)),
    ("conv", 64, (3, 3, 3), (2, 2, 2)),
    ("conv", 64, (3, 3, 3), (2, 2, 2)),
)
PAPER_AUDIO_LAYERS = (
    ("conv", 64, (65,), (4,)),
    ("pool", (4,), (4,)),
    ("conv", 128, (15,), (4,)),
    ("conv", 128, (15,), (4,)),
    ("conv", 256, (15,), (4,)),
    ("conv", 256, (15,), (4,)),
    ("pool", (3,), (3,)),
    ("conv", 128, (3,), (1,)),
)


def get_default(task: str = "avs") -> ConfigDict:
    """Returns a fresh copy of all defaults, locked: assigning to a key that is not here is an error.

    Args:
      task: a name in `cmav.tasks.TASKS`. Fine-tuning ("action") has its own phases, clips, optimizer and evaluators.
    """
    config = ConfigDict()
    config.seed = 0
    config.task = task

    # Training walks these in order. `frame_rate` is in Hz, rounded to what every n-th stored frame can give.
    config.phases = (
        dict(frame_rate=7.5, batch_size=64, steps=100_000),
        dict(frame_rate=29.97, batch_size=32, steps=650_000),
    )

    config.data = ConfigDict()
    config.data.dir = os.environ.get("CMAV_DATA", "data")  # dataset folder, local or gs://
    config.data.train_split = "train"  # a split as it was built, or an official one of its videos ("train1")
    config.data.eval_split = "validation"
    config.data.stored_frame_rate = 30000 / 1001  # Hz, what the shards were built with
    config.data.sample_rate = 21_000  # Hz, what the shards were built with
    config.data.clip_seconds = 4.2
    config.data.crop_size = 224  # pixels; random in training, central in evaluation
    config.data.flip = False  # mirror half of the training clips (Owens & Efros do)
    config.data.shift_seconds = (2.0, 5.8)  # least and greatest |shift| of the shifted audio
    # Control experiment: both audios of a pair are shifted, so nothing can be learned. Accuracy must stay at 0.5.
    config.data.shift_both = False
    config.data.max_bad_fraction = 0.05  # of a split's records; past it training stops
    config.data.num_threads = 0  # readers and decoders per process; 0: one per CPU core
    config.data.prefetch_batches = 2

    config.model = ConfigDict()
    config.model.attention = "cma"  # "cma", or its ablations "aga" and "vga"
    config.model.depth = 1  # co-attention modules in a row (the paper's L)
    config.model.num_heads = 8  # the paper's A
    config.model.hidden_size = 512
    config.model.mlp_size = 2048
    config.model.dropout = 0.0
    config.model.positions = "seconds"  # sinusoids of each token's centre in seconds, "learned" or "none"
    config.model.fusion_tokens = 8  # tokens per stream that the fusion layers see, at any frame rate
    config.model.fusion_size = 32
    config.model.video_layers = PAPER_VIDEO_LAYERS
    config.model.audio_layers = PAPER_AUDIO_LAYERS
    config.model.audio_companding = "mu_law"  # sign(x) log(1 + 255|x|) / log 256, as Owens & Efros; or "none"
    config.model.batch_norm_momentum = 0.99
    # Of the computation; parameters are float32. A GPU multiplies float32 in TF32, a TPU in bfloat16, unless the
    # environment has JAX_DEFAULT_MATMUL_PRECISION=highest. Logits, losses and maps are computed in float32 anyway.
    config.model.dtype = "bfloat16"
    config.model.remat = "stem"  # recompute in the backward pass: "none", "stem" (first layer) or "encoders"
    config.model.conv_lowering = "auto"  # "auto" chooses by backend; "native", "folded", or "folded_taps" (see conv.py)

    # What to start from, where the run has no checkpoint of its own.
    config.init = ConfigDict()
    # A run's folder (its newest checkpoint), or one of its folders checkpoints/<step>; local or gs://. "": start
    # afresh. "newest": the pretraining run in runs/ that was saved last.
    config.init.checkpoint = ""
    config.init.load = ("backbone",)  # subtrees of parameters to load, e.g. "backbone/video_encoder"
    # Take config.model, the rates and the crop from that run's own config, so that the weights mean what they meant
    # there. What the command line sets stays.
    config.init.inherit = True

    config.action = ConfigDict()  # of fine-tuning, and of probes
    config.action.mode = "full"  # "vision_only", "audio_only"; "scratch" is "full" with nothing loaded
    config.action.num_classes = 0  # 0: as the dataset's classes.txt lists
    config.action.hidden_size = 512  # of the first fully connected layer
    config.action.dropout = 0.5
    config.action.standardise = False  # the head's input, by BatchNorm without parameters; the paper says nothing
    config.action.audio_shift_seconds = 0.5  # augmentation: the audio starts up to this much before or after
    config.action.label_smoothing = 0.0
    config.action.mixup = 0.0  # alpha of the Beta distribution of the shares; 0: no mixing
    config.action.videos_per_class = 0  # labels to train on, drawn by config.seed; 0: all
    config.action.eval_clips = 25  # evenly spaced, of each video
    config.action.eval_crops = 1  # of each clip: 1, central, or 3, from left to right

    config.loss = ConfigDict()
    config.loss.alignment_weight = 0.0  # of the temporal alignment loss; 0 is the paper
    config.loss.alignment_temperature = 0.1

    config.optim = ConfigDict()
    config.optim.name = "sgd"  # or "adam"
    config.optim.learning_rate = 0.01
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-5  # on kernels only
    config.optim.clip_norm = 0.0  # of the global gradient; 0: no clipping
    config.optim.schedule = "constant"  # "constant", "cosine", or "halving"
    config.optim.warmup_steps = 0
    config.optim.halve_every = 10_000  # steps, for "halving"

    # Fine-tuning, by name of a subtree of the parameters.
    # Not trained, and its BatchNorm and dropout do as in evaluation: ("backbone/video_encoder/layer_0", "head").
    config.optim.frozen = ()
    config.optim.multipliers = ()  # of the learning rate: (("backbone", 0.1),)
    config.optim.head_warmup_steps = 0  # first steps, in which only "head" learns

    config.log_every = 100  # steps between the lines of progress and the scalars of TensorBoard
    config.checkpoint = ConfigDict()
    config.checkpoint.every = 5_000  # steps; the last step and SIGTERM save too
    config.checkpoint.keep = 3  # newest checkpoints to keep

    # Evaluators, by the name under which their metrics appear.
    config.evals = ConfigDict()
    _TASK_DEFAULTS[task](config)
    config.lock()
    return config


def _avs_defaults(config: ConfigDict) -> None:
    config.evals.pretext = ConfigDict()
    config.evals.pretext.type = "pretext"  # a name in cmav.evals.evaluators.EVALUATORS
    config.evals.pretext.every = 10_000  # steps; the last step always
    config.evals.pretext.batch_size = 32
    config.evals.pretext.pairs_per_clip = 1
    config.evals.pretext.seed = 0  # of the fixed aligned/shifted pairs
    # Where the sound is, in the middle of each clip.
    config.evals.localization = ConfigDict()
    config.evals.localization.type = "localization"
    config.evals.localization.every = 10_000  # steps; the last step always
    config.evals.localization.batch_size = 4  # clips; rounded up to what divides over the devices
    config.evals.localization.methods = ("cam", "attention")  # of cmav.models.maps.METHODS
    config.evals.localization.stride = 0  # pixels between a map's places, for finer maps; 0: the network's own
    config.evals.localization.pictures = 4  # clips to draw for TensorBoard
    config.evals.localization.boxes = ""  # vggss.json, or a folder of XML, of the split's videos. "": only pictures
    config.evals.localization.scenes = ""  # folder of the synthetic world whose videos they are: what is silent there


def _action_defaults(config: ConfigDict) -> None:
    config.init.checkpoint = "newest"
    config.phases = (dict(frame_rate=29.97, batch_size=16, steps=30_000),)
    config.data.clip_seconds = 2.56
    config.data.train_split = "train1"
    config.data.eval_split = "test1"
    config.optim.name = "adam"
    config.optim.learning_rate = 3e-5
    config.optim.weight_decay = 0.0
    config.optim.schedule = "halving"
    config.evals.action = ConfigDict()
    config.evals.action.type = "action"
    config.evals.action.every = 5_000  # steps; the last step always
    config.evals.action.batch_size = 32  # views; a video has config.action.eval_clips * eval_crops


_TASK_DEFAULTS = {"avs": _avs_defaults, "action": _action_defaults}
