"""Decoding and cropping, on pictures whose colours say where a pixel lies and which frame it is."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cmav import config as cmav_config
from cmav.configs import sync_grid
from cmav.data import augment, video
from cmav.data.cover import Cover
from cmav.errors import UserError

SIZE, CROP = 40, 24


def picture(number, height=SIZE, width=SIZE):
    """Red is 5 y, green is 5 x, blue is 40 times the number of the frame."""
    y, x = np.mgrid[:height, :width]
    return np.stack([5 * y, 5 * x, np.full_like(x, 40 * number)], axis=-1).astype(np.uint8)


def jpegs(num_frames=3, **size):
    return tf.stack([tf.io.encode_jpeg(picture(number, **size), quality=98) for number in range(num_frames)])


def decode_crop(clip, number, count, cover=video._ALL_SHOWN):
    """All frames of a clip as a single view."""
    numbers = tf.range(tf.shape(clip)[0])[None]
    return video.decode_views(clip, numbers, tf.constant([number]), count, CROP, cover)[0].numpy()


def offsets_of(frames):
    """Where a crop lies in its frames, read from its colours: (y, x) for each frame."""
    height, width = frames.shape[1:3]
    y = (np.median(frames[..., 0], axis=2) / 5 - np.arange(height)).mean(axis=1)
    x = (np.median(frames[..., 1], axis=1) / 5 - np.arange(width)).mean(axis=1)
    return np.stack([y, x], axis=1)


def test_decoding_agrees_with_another_library():
    encoded = jpegs()
    expected = np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in encoded.numpy()])
    frames = video.decode_frames(encoded, SIZE, 0, 0).numpy()
    assert frames.dtype == np.uint8
    np.testing.assert_allclose(frames.astype(int), expected.astype(int), atol=8)
    crop = video.decode_frames(encoded, CROP, 7, 11).numpy()
    # Chroma is interpolated across the edge of the crop or not: the outermost pixels may differ.
    inner = np.s_[:, 2:-2, 2:-2]
    expected = expected[:, 7 : 7 + CROP, 11 : 11 + CROP]
    np.testing.assert_allclose(crop.astype(int)[inner], expected.astype(int)[inner], atol=8)


def test_without_seed_the_crop_is_central_and_never_mirrored():
    for _ in range(3):
        frames = video.decode_clip(jpegs(), CROP, None, flip=True).numpy()
        np.testing.assert_allclose(offsets_of(frames), [[8, 8]] * 3, atol=0.3)
        np.testing.assert_allclose(frames[..., 2].mean(axis=(1, 2)), [0, 40, 80], atol=3)
    np.testing.assert_allclose(
        offsets_of(video.decode_clip(jpegs(height=41, width=32), CROP, None).numpy())[0], [8, 4], atol=0.3
    )


def test_random_crops_reach_everything_and_hold_for_a_whole_clip():
    clip = jpegs()
    decode = tf.function(lambda seed: video.decode_clip(clip, CROP, seed))
    seen = []
    for number in range(150):
        offsets = offsets_of(decode(tf.constant([3, number])).numpy())
        np.testing.assert_allclose(offsets, offsets[:1].repeat(3, axis=0), atol=0.3)
        seen.append(np.rint(offsets[0]).astype(int))
    seen = np.array(seen)
    assert seen.min() == 0 and seen.max() == SIZE - CROP
    for axis in (0, 1):
        assert len(set(seen[:, axis])) == SIZE - CROP + 1
        assert abs(seen[:, axis].mean() - (SIZE - CROP) / 2) < 1.5
    assert abs(np.corrcoef(seen.T)[0, 1]) < 0.25  # y says nothing about x


def test_mirrors_half_of_the_clips_each_as_a_whole():
    clip = jpegs()
    plain = tf.function(lambda seed: video.decode_clip(clip, CROP, seed))
    flipping = tf.function(lambda seed: video.decode_clip(clip, CROP, seed, flip=True))
    mirrored = 0
    for number in range(100):
        seed = tf.constant([5, number])
        before, after = plain(seed).numpy(), flipping(seed).numpy()
        if np.array_equal(after, before[:, :, ::-1]):
            mirrored += 1
        else:
            np.testing.assert_array_equal(after, before)
    assert 30 < mirrored < 70


def test_shape_is_known_when_traced():
    spec = tf.TensorSpec([3], tf.string)
    traced = tf.function(lambda clip: video.decode_clip(clip, CROP, tf.constant([0, 1]), flip=True))
    assert traced.get_concrete_function(spec).structured_outputs.shape == [3, CROP, CROP, 3]


@pytest.mark.parametrize("seed", [None, (1, 2)])
def test_crop_larger_than_the_frame(seed):
    decode = tf.function(lambda: video.decode_clip(jpegs(), SIZE + 1, seed))
    with pytest.raises(tf.errors.InvalidArgumentError, match="41x41 pixels is larger than the stored frame"):
        decode()


@pytest.mark.parametrize(
    "damage", [lambda jpeg: b"", lambda jpeg: b"not a picture", lambda jpeg: jpeg[: len(jpeg) // 2]]
)
def test_a_broken_jpeg_is_an_error(damage):
    good = jpegs().numpy().tolist()
    decode = tf.function(lambda clip: video.decode_clip(clip, SIZE, None))
    assert decode(tf.constant(good)).shape == [3, SIZE, SIZE, 3]
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant([good[0], damage(good[1]), good[2]]))


def test_three_crops_from_left_to_right():
    clip = jpegs()
    up = (SIZE - CROP) // 2
    for number, left in enumerate((0, (SIZE - CROP) // 2, SIZE - CROP)):
        crop = decode_crop(clip, number, 3)
        np.testing.assert_array_equal(crop, video.decode_frames(clip, CROP, up, left).numpy())
    central = decode_crop(clip, 0, 1)
    np.testing.assert_array_equal(central, video.decode_clip(clip, CROP, None).numpy())


@pytest.mark.parametrize("num_crops", [1, 3])
def test_views_are_those_that_each_would_be_alone(num_crops):
    clip = jpegs(num_frames=5)
    numbers = tf.constant([[0, 1, 2], [1, 2, 3], [2, 3, 4], [4, 0, 1]])  # The last begins again.
    crops = tf.range(4) % num_crops
    views = video.decode_views(clip, numbers, crops, num_crops, CROP).numpy()
    for view, of_view, crop in zip(views, numbers, crops.numpy(), strict=True):
        np.testing.assert_array_equal(view, decode_crop(tf.gather(clip, of_view), crop, num_crops))


def test_a_frame_of_several_views_is_decoded_once(monkeypatch):
    decoded, decode = [], tf.io.decode_and_crop_jpeg

    def count(jpeg, *args, **kwargs):
        decoded.append(jpeg.numpy())
        return decode(jpeg, *args, **kwargs)

    monkeypatch.setattr(tf.io, "decode_and_crop_jpeg", count)
    clip = jpegs(num_frames=5)
    numbers = tf.constant([[0, 1, 2], [1, 2, 3], [2, 3, 0]])
    video.decode_views(clip, numbers, tf.constant([0, 0, 0]), 1, CROP)
    assert sorted(decoded) == sorted(clip.numpy()[:4])


BOXES = ((0.25, 0.5, 0.75, 0.8), (0.0, 0.0, 0.1, 0.1))  # rows 10 to 30, columns 20 to 32; rows and columns 0 to 4


def hidden(cover):
    """Which pixels of whole pictures are covered, bool [SIZE, SIZE]."""
    found = np.zeros((SIZE, SIZE), bool)
    found[10:30, 20:32] = found[:4, :4] = True
    return found if cover.covered else ~found


def test_nothing_of_the_mouth_is_seen_beside_what_covers_it():
    """Of two pictures that differ only in the blocks of the mouth, as JPEGs, all pixels beside the cover are the same.

    Without the two pixels around these blocks, some do.
    """
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 96, 96, 3), np.uint8)
    rows, columns = np.mgrid[:96, :96]
    mouth = (rows >= 48) & (columns >= 16) & (columns < 64)
    other = np.where(mouth[..., None], other, one)
    clip = tf.stack([tf.io.encode_jpeg(pixels, quality=90) for pixels in (one, other)])

    def differs(cover):
        first, second = video.decode_clip(clip, 96, None, cover=cover).numpy()
        return (first != second).any()

    assert differs(Cover(covered=((0.5, 1 / 6, 1.0, 2 / 3),)))
    assert not differs(Cover(covered=(sync_grid.MOUTH,)))


@pytest.mark.parametrize("cover", [Cover(covered=BOXES), Cover(shown=BOXES)], ids=["covered", "shown"])
def test_boxes_are_painted_before_the_crop_and_the_mirror(cover):
    """Whatever is cropped and mirrored: the colours of what is not covered are as they were, all else is grey."""
    clip = jpegs()
    plain = tf.function(lambda seed: video.decode_clip(clip, CROP, seed, flip=True))
    covering = tf.function(lambda seed: video.decode_clip(clip, CROP, seed, flip=True, cover=cover))
    grey = 0
    for number in range(30):
        seed = tf.constant([5, number])
        before, after = plain(seed).numpy(), covering(seed).numpy()
        # Red is 5 y and green 5 x of the whole picture.
        y, x = (np.clip(np.rint(np.median(before[..., c], axis=a) / 5), 0, SIZE - 1) for c, a in ((0, 2), (1, 1)))
        is_hidden = hidden(cover)[y[0].astype(int)][:, x[0].astype(int)]
        np.testing.assert_array_equal(after, np.where(is_hidden[..., None], video.GREY, before))
        grey += is_hidden.mean()
    assert 2 < grey < 28


def test_whole_pictures_and_three_crops_are_covered():
    clip, cover = jpegs(), Cover(covered=BOXES)
    whole = video.decode_clip(clip, SIZE, None, cover=cover).numpy()
    np.testing.assert_array_equal((whole == video.GREY).all(axis=(0, 3)), hidden(cover))
    left = decode_crop(clip, 0, 3, cover=cover)
    np.testing.assert_array_equal((left == video.GREY).all(axis=(0, 3)), hidden(cover)[8:32, :CROP])


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (0, 0.2, 1, 1.1), (0, 0, 1), ("a", 0, 1, 1), 0.5])
def test_what_is_no_box_is_refused_by_the_name_of_its_key(box):
    for key in ("covered", "shown"):
        with pytest.raises(UserError, match=rf"config\.data\.{key}=.* is no box"):
            Cover.of({"covered": (), "shown": (), key: (box,)})
    assert not Cover.of({"covered": (), "shown": ()}) and Cover.of({"covered": (BOXES[0],), "shown": ()})


def test_what_augmentation_cuts_and_resizes_is_covered_before():
    """All but a box is grey: wherever a clip is cut there is the other half's black, grey, or a mixture of them."""
    halves = np.zeros((40, 40, 3), np.uint8)
    halves[:, 20:] = 255
    clip = tf.stack([tf.io.encode_jpeg(halves, quality=98)] * 2)
    strengths = {**cmav_config.get_default().data.augment.to_dict(), "crop_area": (0.3, 0.8)}

    def brightest(cover):
        seeds = [tf.constant([number, 1]) for number in range(8)]
        return [augment.decode_clip(clip, 24, seed, strengths, cover=cover).numpy().max() for seed in seeds]

    assert max(brightest(Cover())) == 255
    assert max(brightest(Cover(covered=((0.0, 0.5, 1.0, 1.0),)))) <= video.GREY + 1
