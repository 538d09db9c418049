"""Fine-tuning on HMDB51: "Look, Listen, and Attend", 2020, section 5 and Table 2.

python -m cmav.finetune --config=configs/finetune_hmdb51.py --config.init.checkpoint=runs/avs_cma --splits=1,2,3

Data: $CMAV_DATA or data/hmdb51, built by
python data_prep/build_tfrecords.py --dataset hmdb51 --videos hmdb51_org --lists testTrainMulti_7030_splits \
    --out data/hmdb51

The paper reports 58.2% over three splits, 51.9% with vision only and 44.8% from scratch; we have not repeated that.
"""

import os

from cmav.configs import finetune_ucf101


def get_config():
    config = finetune_ucf101.get_config()
    config.data.dir = os.environ.get("CMAV_DATA", "data/hmdb51")
    config.action.num_classes = 51
    return config
