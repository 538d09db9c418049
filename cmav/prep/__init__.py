"""From videos to shards: `data_prep/build_tfrecords.py` is the command. Nothing knows it."""
