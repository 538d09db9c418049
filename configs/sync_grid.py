"""By how much is the sound off? A small network on one speaker of GRID (600 clips of 3 s), for two CPU cores.

python data_prep/build_tfrecords.py --videos GRID/train --split train --out data/grid \
  --clip_seconds 2.9 --size 96 --frame_rate 25 --sample_rate 16000
python data_prep/build_tfrecords.py --videos GRID/validation --split validation --out data/grid \
  --clip_seconds 2.9 --size 96 --frame_rate 25 --sample_rate 16000
python -m cmav.main --config=configs/sync_grid.py

How much of the maps lies in the lower face, from nose to collar, once it is trained:

python data_prep/same_box.py --data data/grid --split validation --box 0.583 0.167 0.917 0.667 --out face_boxes.json
python -m cmav.evaluate --config=configs/sync_grid.py --only=localization \
  --config.evals.localization.boxes=face_boxes.json

The GRID audio-visual corpus (Cooke, Barker, Cunningham, Shao, 2006) has people who say sentences of one form. Such a
clip is silence, speech, silence: a coarse shift can be told without lips. So training begins with shifts of five frames
and more, and goes on with such of one frame and more, of which alone a like network that only has fusion layers learned
nothing in 460 steps.
Evaluations of accuracy always have the coarse ones; how finely shifts are told is what the evaluator `offset` says.
"""

import os

from cmav import config as cmav_config
from cmav.configs import demo

# The face from the eyes down, with the mouth of every clip of speaker s1: top, left, bottom, right, for
# config.data.covered and .shown. In 40 clips that were looked at, the ones with the outermost heads of 400 among them,
# the centre of what moves at the mouth lies within 0.68 to 0.81 from the top, and 0.35 to 0.49 from the left. JPEGs mix
# the colours of blocks of 16 pixels, and decoders those of neighbouring pixels: rows 48 to 96 and columns 16 to 64 of
# the stored 96 are whole blocks, and two pixels more on each side hide what they have of these. What the videos' own
# codec spreads is not hidden.
MOUTH = (0.479, 0.146, 1.0, 0.688)


def get_config():
    config = demo.get_config()
    config.data.dir = os.environ.get("CMAV_DATA", "data/grid")
    config.data.stored_frame_rate = 25.0
    config.data.sample_rate = 16_000
    config.data.clip_seconds = 1.6
    config.data.crop_size = 88
    config.data.shift_seconds = (0.2, 1.2)
    config.phases = (
        dict(frame_rate=25.0, batch_size=16, steps=400),
        dict(frame_rate=25.0, batch_size=16, steps=600, shift_seconds=(0.04, 0.7)),
    )

    # A token for each frame of 40 ms, in both streams.
    config.model.video.layers = (
        ("conv", 24, (3, 7, 7), (1, 4, 4)),
        ("conv", 48, (3, 3, 3), (1, 2, 2)),
        ("conv", 64, (3, 3, 3), (1, 2, 2)),
        ("conv", 64, (3, 3, 3), (1, 2, 2)),
    )
    config.model.audio.layers = (
        ("conv", 16, (65,), (4,)),
        ("pool", (4,), (4,)),
        ("conv", 32, (15,), (4,)),
        ("conv", 64, (15,), (2,)),
        ("pool", (5,), (5,)),
        ("conv", 64, (3,), (1,)),
    )
    config.model.fusion_tokens = 20
    # Fusion layers alone stay at chance for 300 steps, and most of their units die meanwhile.
    config.model.fusion_moments = config.loss.alignment_temperature
    config.evals.pretext.every = 200
    config.evals.localization.every = 1_000
    config.evals.localization.boxes = config.evals.localization.scenes = ""  # There are none of GRID.
    with config.unlocked():
        config.evals.offset = cmav_config.offset_evaluator(every=1_000, batch_size=16)
    return config
