"""Real files whose sound is off by what is known: is it found, and is a corrected copy in time?

python -m tests.offsets.shifted_files --videos GRID/validation --checkpoint runs/sync_grid

Several clips of the folder in a row make one video, for a film is longer than a clip. Its sound is moved by up to
800 ms to either side, and it is written at 25, 29.97 or 60 frames a second or at irregular times, with one channel or
two, into several containers with their own codecs, some of which begin later than at zero. One row for each file: what
is true, what `cmav.sync` says, and what it says of the copy that `--fix` wrote, whose packets are compared with the
file's.
"""

import argparse
import hashlib
import pathlib
import tempfile
from fractions import Fraction

import av
import numpy as np

from cmav import tables
from cmav.own_videos import sync

RATE = 48_000
FRAME_MS = 40.0
# Ending, codecs, frames a second (0: at irregular times), channels, where it begins in seconds.
FORMS = (
    ("mp4", "libx264", "aac", Fraction(25), 2, 0.0),
    ("mkv", "libx264", "flac", Fraction(30_000, 1001), 1, 0.0),
    ("mov", "libx264", "pcm_s16le", Fraction(60), 2, 0.0),
    ("webm", "libvpx", "libopus", Fraction(25), 1, 0.0),
    ("avi", "mpeg4", "mp3", Fraction(25), 2, 0.0),
    ("ts", "libx264", "aac", Fraction(30_000, 1001), 2, 1.4),
    ("mkv", "libx264", "libopus", Fraction(0), 2, 0.0),
    ("mp4", "libx264", "aac", Fraction(60), 1, 0.7),
    ("mp4", "mpeg4", "mp3", Fraction(0), 1, 0.0),
    ("mkv", "libx264", "aac", Fraction(60), 2, 0.7),
)


def read(paths: list[pathlib.Path]) -> tuple[list[tuple[float, np.ndarray]], np.ndarray]:
    """Pictures with their times in seconds, and samples int16 [n] at `RATE`, of clips one after another."""
    pictures, sounds, start = [], [], 0.0
    for path in paths:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("s16", "mono", RATE)
            samples, ends = [np.zeros(0, np.int16)], [0.0]
            for frame in container.decode(video=0, audio=0):
                if isinstance(frame, av.VideoFrame):
                    pictures.append((start + frame.time, frame.to_ndarray(format="rgb24")))
                    ends.append(frame.time + 1 / 25)
                else:
                    samples += [one.to_ndarray()[0] for one in resampler.resample(frame)]
        length = round(max(ends) * RATE)
        sound = np.concatenate(samples)[:length]
        sounds.append(np.pad(sound, (0, length - len(sound))))
        start += length / RATE
    return pictures, np.concatenate(sounds)


def write(path, form, pictures, samples, late_ms: float, rng: np.random.Generator) -> float:
    """Writes one file whose sound is late by so much: silence before it, or its beginning cut off.

    Returns by how many milliseconds it is late in the file: an MP3 encoder begins with samples of its own, at a time
    before zero, which AVI cannot write, so that there all sound comes later.
    """
    _, picture_codec, sound_codec, fps, channels, begin = form
    shift = round(late_ms * RATE / 1000)
    samples = np.pad(samples, (max(shift, 0), max(-shift, 0)))[max(-shift, 0) :][: len(samples)]
    times = np.array([time for time, _ in pictures])
    end = times[-1] + 1 / 25
    if fps:
        wanted = np.arange(int(end * fps)) / float(fps)
    else:  # as telephones record: now a frame later, now one left out
        wanted = times[rng.random(len(times)) > 0.2]
        wanted[1:] += rng.uniform(-0.005, 0.005, len(wanted) - 1)
    tick = Fraction(1, 60_000) if not fps else 1 / fps
    with av.open(str(path), "w") as made:
        video = made.add_stream(picture_codec, rate=fps or 25)
        video.height, video.width = pictures[0][1].shape[:2]
        video.pix_fmt, video.bit_rate, video.codec_context.time_base = "yuv420p", 1_500_000, tick
        sound = made.add_stream(sound_codec, rate=RATE, layout="mono" if channels == 1 else "stereo")
        packets = []
        for number, time in enumerate(wanted):
            # The nearest, as if filmed at this rate: what was on screen at this time would be half a picture older.
            frame = av.VideoFrame.from_ndarray(pictures[int(np.abs(times - time).argmin())][1], "rgb24")
            frame.pts = (number + round(begin / tick)) if fps else round((time + begin) / tick)
            frame.time_base = tick
            packets += video.encode(frame)
        packets += video.encode(None)
        resampler = av.AudioResampler(sound.format, sound.layout, RATE)
        whole = av.AudioFrame.from_ndarray(samples[None].astype(np.int16), "s16", "mono")
        whole.sample_rate = RATE
        fifo, start = av.AudioFifo(), round(begin * RATE)
        for frame in resampler.resample(whole):
            frame.pts = None
            fifo.write(frame)
        while frame := fifo.read(sound.frame_size or 1024) or fifo.read():
            frame.pts, frame.time_base = start, Fraction(1, RATE)
            start += frame.samples
            packets += sound.encode(frame)
        packets += sound.encode(None)
        first = min(packet.pts * packet.time_base for packet in packets if packet.stream is sound)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            made.mux(packet)
    return late_ms - 1000 * float(first) if path.suffix == ".avi" else late_ms


def digests(path: str) -> list[str]:
    """Of each stream, the packets' bytes."""
    with av.open(path) as container:
        sums = [hashlib.sha256() for _ in container.streams]
        for packet in container.demux():
            sums[packet.stream.index].update(bytes(packet))
        return [one.hexdigest() for one in sums]


def main(videos: str, checkpoint: str, files: int, joined: int, seed: int) -> None:
    paths = sorted(pathlib.Path(videos).rglob("*.mp4"))
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        truths = np.linspace(-800, 800, files)
        rng.shuffle(truths)
        written = {}
        for number, late_ms in enumerate(truths):
            form = FORMS[number % len(FORMS)]
            path = pathlib.Path(folder, "videos", f"{number:02d}.{form[0]}")
            path.parent.mkdir(exist_ok=True)
            chosen = [paths[(number * joined + one) % len(paths)] for one in range(joined)]
            written[str(path)] = form, write(path, form, *read(chosen), late_ms, rng)
        out = f"{folder}/sync.csv"
        found = sync.sync([f"{folder}/videos"], checkpoint, out, fix=f"{folder}/fixed").rows
        copies = [row["fixed"] for row in found if row.get("fixed")]
        again = {}
        if copies:
            rows = sync.sync(copies, checkpoint, f"{folder}/again.csv").rows
            again = {row["path"]: row["offset_ms"] for row in rows}
        table, errors, left, same = [], [], [], []
        for row in found:
            (_, picture, sound, fps, channels, begin), late_ms = written[row["path"]]
            said, copy = row["offset_ms"], row.get("fixed")
            if said is not None:
                errors.append(abs(said - late_ms))
            after = again.get(copy)
            if copy:
                left.append(abs(after) if after is not None else np.inf)
                same.append(digests(row["path"]) == digests(copy))
            table.append(
                (
                    f"{pathlib.Path(row['path']).suffix[1:]}, {picture}, {sound}",
                    f"{float(fps):.2f}" if fps else "irregular",
                    "mono" if channels == 1 else "stereo",
                    f"{begin:g}",
                    f"{late_ms:+.0f}",
                    row["verdict"] if said is None else f"{said:+.0f}",
                    "" if row["confidence"] is None else f"{row['confidence']:.2f}",
                    "" if after is None else f"{after:+.0f}",
                    {True: "the same", False: "others"}[same[-1]] if copy else "",
                )
            )
        head = (
            "file",
            "frames/s",
            "sound",
            "begins at s",
            "true ms",
            "said ms",
            "confidence",
            "corrected ms",
            "packets",
        )
        print(tables.markdown(head, table))
        errors, left = np.array(errors), np.array(left)
        median = f"{np.median(errors):.0f} ms" if len(errors) else "unknown"
        print(
            f"\n{len(errors)} of {len(found)} were said; median error {median}, within one frame ({FRAME_MS:g} ms) "
            f"{(errors <= FRAME_MS).sum()}, within two {(errors <= 2 * FRAME_MS).sum()}. "
            f"Of {len(left)} copies {(left <= FRAME_MS).sum()} are in time to within one frame; the packets of "
            f"{sum(same)} are the file's."
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", required=True, help="folder of clips whose sound is in time")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--joined", type=int, default=4, help="clips that make one file")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    main(args.videos, args.checkpoint, args.files, args.joined, args.seed)
