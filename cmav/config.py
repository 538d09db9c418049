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

# Settings of each encoder, by its name in `cmav.models.encoders`, for `config.model.video` and `config.model.audio`.
ENCODERS = {
    "video": {
        "conv3d": {"layers": PAPER_VIDEO_LAYERS},
        # Residual networks, Tran et al. 2018. `width`: channels of the first stage, doubled from stage to stage;
        # `blocks`: of each stage; `stride`: pixels from place to place of the map, 2, 4, ... for finer maps.
        "r2plus1d_18": {"width": 64, "blocks": (2, 2, 2, 2), "stride": 16},
        "r3d_18": {"width": 64, "blocks": (2, 2, 2, 2), "stride": 16},
        # Owens & Efros 2018, the whole network but its logit: it takes the sound in on its way. `width`: channels of
        # the first layer; `stride` as above, 32 or less. There are no tokens: of `config.model` it needs both encoders,
        # `dtype`, `remat`, `conv_lowering` and `batch_norm_momentum`, and the rest means nothing.
        "multisensory": {"width": 64, "stride": 32},
    },
    "audio": {
        # Companding "mu_law" is sign(x) log(1 + 255|x|) / log 256, as Owens & Efros; or "none".
        "conv1d": {"layers": PAPER_AUDIO_LAYERS, "companding": "mu_law"},
        # A residual network of the log-mel spectrogram. `max_hz` 0: half the sample rate. `strides`, of (time,
        # frequency): the stem's, then each stage's.
        "log_mel_2d": {
            "window_seconds": 0.025,
            "hop_seconds": 0.010,
            "mels": 80,
            "min_hz": 0.0,
            "max_hz": 0.0,
            "width": 64,
            "blocks": (2, 2, 2, 2),
            "strides": ((2, 2), (1, 1), (2, 2), (2, 2), (2, 2)),
            "masks": 0,
            "mask_share": 0.2,
        },
        "multisensory": {"width": 64, "companding": "mu_law"},  # the sound's part of the same
    },
}


def encoder(stream: str, name: str, **changes) -> ConfigDict:
    """Settings of an encoder, for `config.model.<stream>`: its defaults, but for `changes`.

    Args:
      stream: "video" or "audio".
      name: in `ENCODERS`.
      changes: settings that it has.
    """
    config = ConfigDict({"name": name, **ENCODERS[stream][name]})
    config.lock().update(changes)
    return config


def get_default(task: str = "avs") -> ConfigDict:
    """Returns a fresh copy of all defaults, locked: assigning to a key that is not here is an error.

    Args:
      task: a name in `cmav.tasks.TASKS`. Fine-tuning ("action") has its own phases, clips, optimizer and evaluators.
    """
    config = ConfigDict()
    config.seed = 0
    config.task = task

    # Training walks these in order. `frame_rate` is in Hz, rounded to what every n-th stored frame can give. With
    # `shift_seconds` or `other_share` a phase trains with others than those of `data`, for a curriculum from easy to
    # hard; evaluations keep the shifts of `data`. Give them in a config file: the command line
    # (--config.phases[0].shift_seconds) can only change what is there.
    config.phases = (
        dict(frame_rate=7.5, batch_size=64, steps=100_000),
        dict(frame_rate=29.97, batch_size=32, steps=650_000),
    )

    config.data = ConfigDict()
    config.data.dir = os.environ.get("CMAV_DATA", "data")  # dataset folder, local or gs://
    config.data.train_split = "train"  # a split as it was built, or an official one of its videos ("train1")
    config.data.eval_split = "validation"
    # Videos of the training split to train on, drawn by config.seed; 0: all. More are fewer and others. A probe's SVM
    # learns from as many; what is evaluated is always all of it.
    config.data.max_videos = 0
    config.data.stored_frame_rate = 30000 / 1001  # Hz, what the shards were built with
    config.data.sample_rate = 21_000  # Hz, what the network hears; shards of another rate are resampled
    config.data.clip_seconds = 4.2
    config.data.crop_size = 224  # pixels; random in training, central in evaluation
    config.data.flip = False  # mirror half of the training clips (Owens & Efros do)
    # Control experiments: boxes ((top, left, bottom, right), ...) as shares of the stored picture that are painted grey
    # before it is cropped and mirrored, in training and wherever the network looks, at one's own videos too. Or all is
    # but the boxes that are shown.
    config.data.covered = ()
    config.data.shown = ()
    config.data.shift_seconds = (2.0, 5.8)  # least and greatest |shift| of the shifted audio
    config.data.num_shifted = 1  # shifted audios of each clip, beside the one in sync: the paper's K is 2
    # Of the training clips, 0 to 1: of so many these audios are not shifted ones of their own, but of another video. 1
    # is audio-visual correspondence (AVC). What evaluations ask is `negatives` of each.
    config.data.other_share = 0.0
    # Control experiment: all audios of a clip are shifted, so nothing can be learned. Accuracy must stay at 0.5.
    config.data.shift_both = False
    config.data.max_bad_fraction = 0.05  # of a split's records; past it training stops
    config.data.num_threads = 0  # readers and decoders per process; 0: one per CPU core
    config.data.prefetch_batches = 2

    # Augmentation of the training clips of tasks that ask for it, the same for all frames of a clip. These change
    # nothing. Mirroring is config.data.flip. See cmav/data/augment.py.
    config.data.augment = ConfigDict()
    # Least and greatest share of a frame's area to cut out and resize to crop_size, 0.01 to 1; (1, 1): crop_size pixels
    # are cut out as they are, at random.
    config.data.augment.crop_area = (1.0, 1.0)
    config.data.augment.crop_aspect = (3 / 4, 4 / 3)  # least and greatest width / height of such a cut, 0.1 to 10
    # Each multiplies by a factor from 1 - this to 1 + this, 0 to 1.
    config.data.augment.brightness = 0.0  # colours
    config.data.augment.contrast = 0.0  # their distance from the clip's mean grey
    config.data.augment.saturation = 0.0  # their distance from grey of the same luma
    config.data.augment.hue = 0.0  # 0 to 0.5: turns of the colour circle, either way
    config.data.augment.grey = 0.0  # 0 to 1: probability that a clip loses its colours
    config.data.augment.blur = 0.0  # 0 to 1: probability of a Gaussian blur
    config.data.augment.blur_sigma = (0.1, 2.0)  # its least and greatest standard deviation, pixels, 0.01 to 100
    config.data.augment.gain_db = (0.0, 0.0)  # least and greatest gain of the audio, dB, -60 to 60
    config.data.augment.audio_shift_seconds = 0.0  # 0 to 60: the audio starts up to this much before or after

    config.model = ConfigDict()
    config.model.attention = "cma"  # "cma", or its ablations "aga" and "vga"
    config.model.depth = 1  # co-attention modules in a row (the paper's L)
    config.model.num_heads = 8  # the paper's A
    config.model.hidden_size = 512
    config.model.mlp_size = 2048
    config.model.dropout = 0.0
    config.model.positions = "seconds"  # sinusoids of each token's centre in seconds, "learned" or "none"
    # Of each stream's tokens, before the fusion layers: "flatten", which keeps what is when, or their "mean".
    config.model.fusion = "flatten"
    config.model.fusion_tokens = 8  # tokens per stream that are flattened, at any frame rate
    config.model.fusion_size = 32
    # The head also sees how much more each moment's tokens are alike than others of the clip, by a softmax of this
    # temperature (`cmav.models.alignment.moment_evidence`); 0 is the paper: it does not.
    config.model.fusion_moments = 0.0
    config.model.video = encoder("video", "conv3d")
    config.model.audio = encoder("audio", "conv1d")
    config.model.batch_norm_momentum = 0.99
    # Of the computation; parameters are float32. A GPU multiplies float32 in TF32, a TPU in bfloat16, unless the
    # environment has JAX_DEFAULT_MATMUL_PRECISION=highest. Logits, losses and maps are computed in float32 anyway.
    config.model.dtype = "bfloat16"
    # Less memory for more time in the backward pass: of the first layer ("stem"), of the "encoders", or of "none".
    # "auto" chooses by backend: see `cmav.models.encoders.base.remat`.
    config.model.remat = "auto"
    config.model.conv_lowering = "auto"  # "auto" chooses by backend and layer; see conv.py

    # What to start from, where the run has no checkpoint of its own.
    config.init = ConfigDict()
    # A run's folder (its newest checkpoint), or one of its folders checkpoints/<step>; local or gs://. "": start
    # afresh. "newest": the pretraining run in runs/ that was saved last.
    config.init.checkpoint = ""
    config.init.load = ("backbone",)  # subtrees of parameters to load, e.g. "backbone/video_encoder"; (): none
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
    # Of a softmax over a clip's audios, beside the judgement of each pair by itself: which of them is in sync? 0 is the
    # paper.
    config.loss.softmax_weight = 0.0
    config.loss.alignment_weight = 0.0  # of the temporal alignment loss; 0 is the paper
    config.loss.alignment_temperature = 0.1

    config.cmac = ConfigDict()  # of the task "cmac"; see cmav/tasks/cmac.py
    config.cmac.embed_size = 128
    config.cmac.hidden_size = 512  # of the layer before the embeddings
    config.cmac.pooling = "attention"  # of places and times to an embedding, by the pure attention; or "mean"
    config.cmac.negatives = "within"  # the own modality's in the same sum, in "separate" losses, or "none" of them
    config.cmac.within_weight = 1.0  # of the losses within modalities, where negatives are "separate"
    config.cmac.temperature = 0.1  # of the contrast
    config.cmac.learn_temperature = False  # start there, and learn it
    config.cmac.queue = 0  # past clips to keep as more negatives, for small batches
    config.cmac.consistency = "kl"  # of pure from guided attention; or "l2"
    config.cmac.video_consistency = 1.0  # weight; 0 leaves it out
    config.cmac.audio_consistency = 1.0
    config.cmac.video_guided_temperature = 0.1  # of the guided attention, the target
    config.cmac.audio_guided_temperature = 0.1

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
    config.trackers = ()  # where scalars and pictures go beside TensorBoard: ("wandb",)
    config.checkpoint = ConfigDict()
    config.checkpoint.every = 5_000  # steps; the last step and SIGTERM save too
    config.checkpoint.keep = 3  # newest checkpoints to keep

    # Evaluators, by the name under which their metrics appear. One with `every` 0 is none of training, but only of
    # `python -m cmav.evaluate`.
    config.evals = ConfigDict()
    _TASK_DEFAULTS[task](config)
    config.lock()
    return config


def _localization(methods: tuple[str, ...]) -> ConfigDict:
    """Where the sound is, in the middle of each clip."""
    config = ConfigDict()
    config.type = "localization"
    config.every = 10_000  # steps; the last step always
    config.batch_size = 4  # clips; rounded up to what divides over the devices
    config.methods = methods  # names that the network has (cmav.localization.methods)
    config.stride = 0  # pixels between a map's places, for finer maps; 0: the network's own
    config.pictures = 4  # clips to draw for TensorBoard
    config.boxes = ""  # vggss.json, or a folder of XML, of the split's videos. "": only pictures
    config.scenes = ""  # folder of the synthetic world whose videos they are: what is silent there
    return config


def offset_evaluator(**changes) -> ConfigDict:
    """By how much is the sound off? For `config.evals.<name>`; of the defaults of no task, for it takes its time."""
    config = ConfigDict()
    config.type = "offset"
    config.every = 10_000  # steps; the last step always
    config.batch_size = 32  # shifted clips; a multiple of `shifts`, of two clips at least
    config.max_seconds = 1.0  # the greatest offset, as far as the clips are long enough
    config.shifts = 8  # of each clip, spread over the range
    config.seed = 0  # of these
    config.lock().update(changes)
    return config


def correspondence_evaluator(config: ConfigDict, **changes) -> ConfigDict:
    """As `config.evals.pretext`, but of whose video is the sound? For `config.evals.<name>`."""
    evaluator = config.evals.pretext.copy_and_resolve_references()
    evaluator.lock().update(negatives="other", **changes)
    return evaluator


def trained_by(task: str) -> str:
    """The command that trains this task: pretraining's, or fine-tuning's."""
    return "cmav.finetune" if task == "action" else "cmav.main"


def _avs_defaults(config: ConfigDict) -> None:
    config.evals.pretext = ConfigDict()
    config.evals.pretext.type = "pretext"  # a name in cmav.evals.evaluators.EVALUATORS
    config.evals.pretext.every = 10_000  # steps; the last step always
    config.evals.pretext.batch_size = 32
    config.evals.pretext.pairs_per_clip = 1
    # The audios that are not a clip's own: "shifted" by data.shift_seconds, or of an "other" video. For both side by
    # side: config.evals.correspondence = cmav_config.correspondence_evaluator(config).
    config.evals.pretext.negatives = "shifted"
    config.evals.pretext.seed = 0  # of the fixed aligned/shifted pairs
    config.evals.localization = _localization(("cam", "attention"))


def _cmac_defaults(config: ConfigDict) -> None:
    config.phases = (dict(frame_rate=15.0, batch_size=512, steps=200_000),)
    config.data.clip_seconds = 2.0
    config.data.crop_size = 112
    config.data.flip = True
    config.model.video = encoder("video", "r2plus1d_18")
    config.model.audio = encoder("audio", "log_mel_2d")
    config.model.depth = 0  # Positions stay: they tell an embedding what is when.
    config.optim.name = "adam"
    config.optim.learning_rate = 1e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 5_000
    config.evals.retrieval = ConfigDict()
    config.evals.retrieval.type = "retrieval"
    config.evals.retrieval.every = 10_000  # steps; the last step always
    config.evals.retrieval.batch_size = 32
    config.evals.retrieval.clips = 1_000  # to retrieve among, evenly spaced in the split; 0: all
    config.evals.localization = _localization(("guided", "pure"))
    config.evals.frequencies = ConfigDict()
    config.evals.frequencies.type = "frequencies"
    config.evals.frequencies.every = 10_000  # steps; the last step always
    config.evals.frequencies.batch_size = 32
    config.evals.frequencies.pictures = 4  # clips to draw for TensorBoard
    config.evals.frequencies.scenes = ""  # folder of the synthetic world whose videos they are: the bands that sound


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


_TASK_DEFAULTS = {"avs": _avs_defaults, "cmac": _cmac_defaults, "action": _action_defaults}
