"""Pairs of frames and audio, against an enumeration of all pairs that fit."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from cmav.data import resampling, sampling
from cmav.data.clip_shape import ClipShape

NUM_DRAWS = 20_000


def enumerate_pairs(num_frames, num_samples, shape, rate, shift_seconds):
    """All (start, audio start) in frames, by trying each. `rate` is the exact stored frame rate."""
    least, greatest = (Fraction(str(seconds)) for seconds in shift_seconds)

    def audio_fits(frame):
        return frame >= 0 and math.floor(frame * shape.sample_rate / rate) + shape.num_samples <= num_samples

    return [
        (start, audio)
        for start in range(num_frames)
        for audio in range(num_frames)
        if start + shape.stored_frames <= num_frames
        and audio_fits(start)
        and audio_fits(audio)
        and least <= abs(audio - start) / rate <= greatest
    ]


def draw_pairs(num_frames, num_samples, shape, shift_seconds, shift_both=False, num_draws=NUM_DRAWS, num_shifted=1):
    """Starts [num_draws] and audio starts [num_draws, 1 + num_shifted]."""

    def draw(number):
        seed = tf.stack([7, number])
        return sampling.sample_pair(seed, num_frames, num_samples, shape, shift_seconds, shift_both, num_shifted)

    spec = (tf.TensorSpec([], tf.int32), tf.TensorSpec([1 + num_shifted], tf.int32))
    draw_all = tf.function(lambda numbers: tf.map_fn(draw, numbers, fn_output_signature=spec))
    starts, audio_starts = draw_all(tf.range(num_draws))
    return starts.numpy(), audio_starts.numpy()


def assert_uniform(draws, population):
    """Pearson's chi-square, within five standard deviations of its mean."""
    counts = dict.fromkeys(population, 0)
    for draw in draws:
        counts[draw] += 1  # A KeyError: a draw that the enumeration does not have.
    expected = len(draws) / len(population)
    freedom = len(population) - 1
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)


CASES = {
    # record frames, record samples, clip seconds, exact rate, sample rate, shift
    "shifts of both signs": (30, 3000, 0.8, Fraction(10), 1000, (0.3, 1.0)),
    "middle starts leave no shift": (24, 2400, 1.0, Fraction(10), 1000, (1.0, 1.4)),
    "audio ends early": (30, 2610, 0.8, Fraction(10), 1000, (0.3, 1.0)),
    "audio goes on": (20, 4000, 0.8, Fraction(10), 1000, (0.3, 1.0)),
    "odd rates": (40, 26693, 0.7, Fraction(24000, 1001), 16000, (0.25, 0.9)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_uniform_over_all_pairs_that_fit(case):
    num_frames, num_samples, seconds, rate, sample_rate, shift = case
    shape = ClipShape(seconds, float(rate), float(rate), sample_rate)
    pairs = enumerate_pairs(num_frames, num_samples, shape, rate, shift)
    sample_of = {frame: math.floor(frame * sample_rate / rate) for frame in range(num_frames)}

    starts, audio_starts = draw_pairs(num_frames, num_samples, shape, shift)
    assert [sample_of[start] for start in starts] == audio_starts[:, 0].tolist()  # audio 0 is aligned
    assert_uniform(
        list(zip(starts.tolist(), audio_starts[:, 1].tolist(), strict=True)),
        [(start, sample_of[audio]) for start, audio in pairs],
    )


def test_control_experiment_shifts_both_alike():
    num_frames, num_samples, shift = 30, 3000, (0.3, 1.0)
    shape = ClipShape(0.8, 10.0, 10.0, 1000)
    pairs = enumerate_pairs(num_frames, num_samples, shape, Fraction(10), shift)
    starts, audio_starts = draw_pairs(num_frames, num_samples, shape, shift, shift_both=True)
    for audio in (0, 1):
        assert_uniform(
            list(zip(starts.tolist(), audio_starts[:, audio].tolist(), strict=True)),
            [(start, 100 * audio) for start, audio in pairs],
        )
    # Independent draws: for a start, all combinations are equally likely.
    start = 10
    shifts = [100 * audio for other, audio in pairs if other == start]
    drawn = [tuple(both) for both in audio_starts[starts == start].tolist()]
    assert_uniform(drawn, [(one, other) for one in shifts for other in shifts])


def test_further_shifted_audios_leave_the_first_pair_as_it_is():
    num_frames, num_samples, shift = 30, 3000, (0.1, 1.0)  # from one frame on, to both sides
    shape = ClipShape(0.8, 10.0, 10.0, 1000)
    pairs = enumerate_pairs(num_frames, num_samples, shape, Fraction(10), shift)
    starts, two = draw_pairs(num_frames, num_samples, shape, shift)
    same_starts, four = draw_pairs(num_frames, num_samples, shape, shift, num_shifted=3)
    np.testing.assert_array_equal(starts, same_starts)
    np.testing.assert_array_equal(two, four[:, :2])
    # Of one start, each further audio is uniform over those that fit, and independent of the others.
    shifts = [100 * audio for start, audio in pairs if start == 10]
    assert min(shifts) < 1000 < max(shifts)
    drawn = [tuple(row) for row in four[starts == 10][:, 2:].tolist()]
    assert_uniform(drawn, [(one, other) for one in shifts for other in shifts])


def test_bounds_at_the_size_of_the_paper():
    rate = 30000 / 1001
    shape = ClipShape(4.2, rate, 29.97, 21_000)
    starts, audio_starts = draw_pairs(300, 210_210, shape, (2.0, 5.8), num_draws=3000)
    assert starts.min() >= 0 and starts.max() + 126 <= 300
    assert audio_starts.min() >= 0 and audio_starts.max() + 88_200 <= 210_210
    shifts = (audio_starts[:, 1] - audio_starts[:, 0]) / 21_000
    assert np.abs(shifts).min() >= 2.0 - 1 / 21_000 and np.abs(shifts).max() <= 5.8 + 1 / 21_000
    assert (shifts > 0).mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(audio_starts[:, 0] / 21_000, starts / rate, atol=1 / 21_000)


def test_function_of_the_seed():
    shape = ClipShape(0.8, 10.0, 10.0, 1000)
    one, again, other = (sampling.sample_pair([seed, 0], 30, 3000, shape, (0.3, 1.0)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[1], again[1])
    assert one[0] != other[0] or not np.array_equal(one[1], other[1])


def test_shortest_record_has_two_pairs_and_one_frame_less_has_none():
    shape = ClipShape(0.8, 10.0, 10.0, 1000)
    num_frames = round(shape.shortest_seconds((0.3, 1.0)) * 10)
    starts, audio_starts = draw_pairs(num_frames, 100 * num_frames, shape, (0.3, 1.0), num_draws=50)
    assert set(zip(starts.tolist(), audio_starts[:, 1].tolist(), strict=True)) == {(0, 300), (3, 0)}
    for too_few in (num_frames - 1, 3, 0):
        with pytest.raises(tf.errors.InvalidArgumentError, match="too short"):
            draw_pairs(too_few, 100 * too_few, shape, (0.3, 1.0), num_draws=1)


def test_clip_takes_every_nth_frame_and_its_samples():
    shape = ClipShape(2.0, 30.0, 7.5, 100)
    frames = tf.constant([str(number) for number in range(90)])
    clip = sampling.clip_frames(frames, tf.constant(11), shape)
    assert [int(frame) for frame in clip.numpy()] == list(range(11, 71, 4))
    audio = np.arange(600, dtype=np.int16).reshape(300, 2)
    np.testing.assert_array_equal(sampling.clip_audio(tf.constant(audio), tf.constant(36), shape), audio[36:236])


def test_clip_past_the_end_is_an_error():
    shape = ClipShape(2.0, 30.0, 7.5, 100)

    @tf.function
    def take(start):
        frames = sampling.clip_frames(tf.fill([90], "jpeg"), start, shape)
        audio = sampling.clip_audio(tf.zeros([300, 2], tf.int16), start, shape)
        return frames, audio

    frames, audio = take(tf.constant(30))
    assert frames.shape == [15] and audio.shape == [200, 2]
    for start in (40, 110):
        with pytest.raises(tf.errors.InvalidArgumentError):
            take(tf.constant(start))


def test_a_clip_starts_anywhere_and_its_audio_nearby():
    shape = ClipShape(1.0, 10.0, 5.0, 100)
    draw = tf.function(lambda number: sampling.sample_clip(tf.stack([3, number]), 16, shape, 0.3))
    starts, audio_starts = np.array([draw(tf.constant(number)) for number in range(2000)]).T
    assert set(starts) == set(range(7))
    assert_uniform(starts.tolist(), range(7))
    assert_uniform((audio_starts - starts)[starts == 3].tolist(), range(-3, 4))
    assert audio_starts.min() == 0 and audio_starts.max() == 6
    exact = tf.function(lambda number: sampling.sample_clip(tf.stack([3, number]), 16, shape, 0.0))
    assert all(start == audio for start, audio in (exact(tf.constant(number)) for number in range(20)))
    assert [int(x) for x in sampling.sample_clip(tf.constant([1, 2]), 4, shape, 0.3)] == [0, 0]


@pytest.mark.parametrize(
    ("count", "num_frames", "expected"),
    [(5, 26, [0, 4, 8, 12, 16]), (4, 20, [0, 3, 7, 10]), (1, 20, [5]), (3, 10, [0, 0, 0]), (3, 4, [0, 0, 0])],
)
def test_clips_are_evenly_spaced_from_the_first_frame_to_the_last(count, num_frames, expected):
    shape = ClipShape(1.0, 10.0, 5.0, 100)
    starts = [int(sampling.evenly_spaced_start(number, count, num_frames, shape)) for number in range(count)]
    assert starts == expected
    assert sampling.evenly_spaced_start(tf.range(count), count, num_frames, shape).numpy().tolist() == expected


def test_short_records_loop_and_long_ones_do_not():
    shape = ClipShape(1.0, 10.0, 5.0, 30)  # 5 frames of every second one, 30 samples: 3 to a frame
    frames = tf.constant([str(number) for number in range(14)])
    audio = tf.constant(np.arange(84, dtype=np.int16).reshape(42, 2))

    def take(num_frames, start, num_samples):
        clip = sampling.looped_frames(frames[:num_frames], tf.constant(start), shape)
        sound = sampling.looped_audio(audio[:num_samples], tf.constant(start), tf.constant(num_frames), shape)
        return [int(frame) for frame in clip.numpy()], sound.numpy()[:, 0] // 2

    clip, sound = take(14, 4, 42)
    assert clip == [4, 6, 8, 10, 12] and sound.tolist() == list(range(12, 42))
    clip, sound = take(3, 0, 9)
    assert clip == [0, 2, 1, 0, 2] and sound.tolist() == [*range(9), *range(9), *range(9), 0, 1, 2]
    # Audio that ends before the frames is silent until they begin again; audio that goes on is cut.
    assert take(3, 0, 7)[1].tolist()[:12] == [0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 1, 2]
    assert take(3, 0, 42)[1].tolist()[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2]


def test_length_of_a_record_without_frames():
    shape = ClipShape(1.0, 10.0, 5.0, 30)
    assert [int(sampling.frames_of_samples(n, shape)) for n in (1, 3, 4, 30, 31)] == [1, 1, 2, 10, 11]
    # Five seconds, resampled from 16 to 21 kHz: a sample more than they have begins no frame.
    audio = resampling.resample(np.zeros((5 * 16_000, 2), np.int16), 16_000, 21_000)
    assert len(audio) > 5 * 21_000
    assert int(sampling.frames_of_samples(len(audio), ClipShape(1.0, 25.0, 25.0, 21_000))) == 125
