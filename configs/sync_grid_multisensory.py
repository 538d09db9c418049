"""configs/sync_grid.py with the network of Owens and Efros at a small size: as many parameters and operations.

python -m cmav.main --config=configs/sync_grid_multisensory.py

0.89M parameters and 1.03 GFLOPs a clip, beside 1.00M and 1.11. Most of the network is run anew for each pair of
pictures and sound, so that finding offsets takes it longer. As in configs/demo_multisensory.py, the temporal alignment
loss is off.
"""

from cmav.configs import sync_grid
from cmav.configs.demo_multisensory import with_multisensory


def get_config():
    return with_multisensory(sync_grid.get_config())
