"""Videos of noise, and what players have of an overlay."""

import av
import numpy as np

RATE, SIZE, WINDOW = 10, 20, 2.0


def noisy(count, height=32, width=48, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


def decoded(path):
    """Times of the frames and the frames, and times of the samples and the samples of the first channel, as players
    have them."""
    with av.open(str(path)) as container:
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        times, samples = [], []
        if container.streams.audio:
            container.seek(0)
            for frame in container.decode(audio=0):
                times.append(frame.time + np.arange(frame.samples) / frame.sample_rate)
                samples.append(frame.to_ndarray()[0])
    return *zip(*frames, strict=True), np.concatenate(times or [[]]), np.concatenate(samples or [[]])


def onsets(times, levels, threshold):
    """Where a level goes over a threshold after at least 0.3 s below it."""
    loud = np.asarray(times)[np.asarray(levels) > threshold]
    return loud[np.diff(loud, prepend=-9) > 0.3]


def load(path):
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}
