"""The demo with a curriculum of negatives, on the demo's data: from easy to hard ones.

python -m cmav.main --config=configs/demo_curriculum.py

First each clip's other sound is another video's (AVC), then in half of the clips, the other half being shifted by much,
and at last all are shifted as the demo's. Held-out clips are asked about both. The head does not compare moments, which
would leave a curriculum nothing to help with: `python -m cmav.experiments.run plateau` compares.
"""

from cmav import config as cmav_config
from cmav.configs import demo


def get_config():
    config = demo.get_config()
    (whole,) = config.phases
    easy = dict(steps=150, other_share=1.0, shift_seconds=config.data.shift_seconds)
    mixed = dict(steps=150, other_share=0.5, shift_seconds=(4.0, config.data.shift_seconds[1]))
    hard = dict(steps=400, other_share=0.0, shift_seconds=config.data.shift_seconds)
    config.phases = tuple({**whole, **phase} for phase in (easy, mixed, hard))
    config.model.fusion_moments = 0.0
    with config.unlocked():
        config.evals.correspondence = cmav_config.correspondence_evaluator(config)
    return config
