"""A loader of small batches, for tests of the pipeline."""

import numpy as np
import tensorflow as tf

from cmav.data import pipeline, video

NUM_CLIPS = 11
SIZE = 16
CLIP = dict(seconds=1.0, size=SIZE, frame_rate=10.0, sample_rate=500)


def make_example(record, seed, view):
    return {
        "clip_id": record["clip_id"],
        "draw": tf.random.stateless_uniform([], seed),
        "seed": seed,
        "video": video.decode_clip(tf.ensure_shape(record["frames"][:4], [4]), 12, seed),
        "audio": tf.ensure_shape(record["audio"][:100], [100, 2]),
    }


def load(split, max_bad_fraction=0.5, records=None, **options):
    records = np.arange(len(split)) if records is None else np.asarray(records)
    return pipeline.Loader(split, make_example, records, max_bad_fraction, num_threads=2, **options)


def train(loader, *, seed=0, first_example=0, batch_size=4, num_batches=6, rows=None):
    return list(
        loader.train_batches(
            seed=seed, first_example=first_example, batch_size=batch_size, num_batches=num_batches, rows=rows
        )
    )


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for key in other:
            np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


def clip_numbers(batches):
    """Numbers of the clips in their order, None for a masked row."""
    ids = np.concatenate([batch["clip_id"] for batch in batches])
    mask = np.concatenate([batch["mask"] for batch in batches])
    return [int(name[4:8]) if real else None for name, real in zip(ids, mask, strict=True)]
