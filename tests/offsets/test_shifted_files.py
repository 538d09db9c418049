"""The files of `shifted_files` are off by what it says, as the sound is read."""

import av
import numpy as np
import pytest

from cmav.media.audio_track import AudioTrack
from tests.offsets import shifted_files

RATE = shifted_files.RATE


@pytest.mark.parametrize("form", shifted_files.FORMS, ids=lambda form: "-".join(map(str, form)))
def test_a_click_is_read_when_it_should_be(form, tmp_path):
    pictures = [(number / 25, np.full((64, 64, 3), 40 + number, np.uint8)) for number in range(50)]
    seconds = np.arange(2 * RATE) / RATE - 1
    click = 20_000 * np.exp(-((seconds / 0.0007) ** 2)) * np.cos(2 * np.pi * 1500 * seconds)
    path = tmp_path / f"click.{form[0]}"
    late_ms = shifted_files.write(path, form, pictures, click.astype(np.int16), 120.0, np.random.default_rng(0))
    assert late_ms == pytest.approx(120, abs=30)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        zero = frame.pts * frame.time_base
    track = AudioTrack(str(path), RATE, zero, lambda: None)
    power = track.read(0, 2 * RATE)[:, 0].astype(float) ** 2
    track.close()
    assert 1000 * (power @ seconds) / power.sum() == pytest.approx(late_ms, abs=3)
