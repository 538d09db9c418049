"""From a record to its video: the name, its place in a list, the frame in the middle."""

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import files, index
from tests import fake_clips

NAMES = ["b", "v_Jump_g01_c02", "a"]


@pytest.mark.parametrize(("clip_id", "number"), [("a_0", 2), ("v_Jump_g01_c02_10000", 1), ("v_Jump_g01_c02", -1)])
def test_file_of_a_clip(clip_id, number):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def number_of_file(clip_id):
        return files.number_of_file(clip_id, NAMES)

    found = number_of_file(tf.constant(clip_id))
    assert found.dtype == tf.int64 and int(found) == number
    assert files.file_of(clip_id) == (NAMES[number] if number >= 0 else "v_Jump_g01")
    assert int(files.number_of_file(tf.constant(clip_id), [])) == -1


@pytest.mark.parametrize(("seconds", "middle"), [(1.0, 5), (0.9, 4)])
def test_the_frame_in_the_middle(tmp_path, seconds, middle):
    clip = fake_clips.make_clip(3, seconds=seconds, size=20, frame_rate=10.0, sample_rate=500)
    split = fake_clips.write_clips(tmp_path, "train", [clip], num_shards=1)
    file, picture = files.read_middle(split, 0)
    assert file == "fake0003"
    np.testing.assert_array_equal(picture, tf.io.decode_jpeg(clip.frames[middle]))
    assert (picture != tf.io.decode_jpeg(clip.frames[middle - 1]).numpy()).any()
    fake_clips.flip_a_byte(split, 0)
    with pytest.raises(index.DAMAGE):
        files.read_middle(split, 0)
