"""What the commands share: their flags, the data that they damage, and the rows that they print."""

import argparse
import contextlib
import dataclasses
import logging
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from tests import fake_clips, tiny_config
from tests.media import sample_videos

CLIP_FLAGS = [f"--{key}={tiny_config.CLIPS[key]}" for key in ("size", "frame_rate", "sample_rate")]
BUILD = ["data_prep/build_tfrecords.py", *CLIP_FLAGS, "--clip_seconds=2", "--workers=2"]
TRAIN = ["-m", "cmav.main", "--config=tests/tiny_config.py"]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: the fault, what was lost by it, and what was said of it."""

    fault: str
    lost: str
    said: str


Make = Callable[[pathlib.Path, int, random.Random], Iterable[Row]]


def main(make: Make, times: int, module: str) -> None:
    """The command line of a fault: makes it and prints its rows."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=sys.modules["__main__"].__doc__)
    parser.add_argument("--times", type=int, default=times, help=f"how often; default {times}")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cmav-fault-") as folder:
        for row in make(pathlib.Path(folder), args.times, random.Random(args.seed)):
            cells = (row.fault, f"`python -m {module} --times={args.times}`", row.lost, row.said)
            print("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |", flush=True)
    print(f"{module}: {time.monotonic() - started:.0f} s", file=sys.stderr)


def write_clips(folder: pathlib.Path, num_held_out: int = 12) -> pathlib.Path:
    """A dataset for `TRAIN`."""
    fake_clips.write_dataset(folder, "train", 24, **tiny_config.CLIPS)
    fake_clips.write_dataset(folder, "validation", num_held_out, seed=1, **tiny_config.CLIPS)
    return folder


def write_videos(folder: pathlib.Path, count: int, seconds: float = 2.5) -> list[pathlib.Path]:
    """Small videos with sound, all different."""
    folder.mkdir(parents=True)
    times = sample_videos.steady_times(10, seconds)
    paths = []
    for number in range(count):
        pictures = sample_videos.numbered(len(times) + number, size=32)[number:]
        sound = sample_videos.Sound(beeps=(0.1 * (number % 20),), seconds=seconds, codec="aac")
        paths.append(folder / f"video{number:04d}.mp4")
        sample_videos.write_video(str(paths[-1]), times, pictures, sound)
    return paths


def flip_a_bit(path: pathlib.Path, place: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ (1 << bit)]))


@contextlib.contextmanager
def flipped(path: pathlib.Path, place: int, bit: int):
    """A file with a bit flipped, for a while."""
    flip_a_bit(path, place, bit)
    try:
        yield
    finally:
        flip_a_bit(path, place, bit)


def draw_bits(paths: Sequence[pathlib.Path], times: int, rng: random.Random) -> list[tuple[pathlib.Path, int, int]]:
    """Bits of files, each byte of all of them as likely as any other."""
    sizes = [path.stat().st_size for path in paths]
    chosen = rng.choices(range(len(paths)), sizes, k=times)
    return [(paths[i], rng.randrange(sizes[i]), rng.randrange(8)) for i in chosen]


def differing(folder: pathlib.Path, reference: pathlib.Path) -> list[str]:
    """Names of the files that only one of two folders has, or that are not equal byte for byte."""
    ours, theirs = (
        {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (folder, reference)
    )
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def or_nothing(lost: Sequence[str]) -> str:
    return "; ".join(lost) or "nothing"


def words(outputs: str | Iterable[str]) -> str:
    """What commands warned of, each kind once and with how often, numbers and places left out."""
    text = outputs if isinstance(outputs, str) else "\n".join(outputs)
    lines = re.sub(r":\n(?=\S)", ": ", text).splitlines()
    found = [re.match(r"W\d{4} \S+ +\S+ \S+\] (.*)|([Ee]rror: .*|\w*(?:Error|Exception)\b.*)", line) for line in lines]
    said = [match.group(1) or match.group(2) for match in found if match]
    return kinds(line for line in said if "Waiting for previous save" not in line)


def kinds(sentences: Iterable[str], limit: int = 4) -> str:
    """Each kind of what was said once and with how often: numbers, names in quotes and folders make no kind."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for sentence in sentences:
        said = re.sub(r"/tmp/[^\s:'\"]*/", "", sentence.replace("\n", " "))[:160]
        kind = re.sub(r"[\d.]+|'[^']*'", "#", said)
        counts[kind] += 1
        examples.setdefault(kind, said)
    shown = [f"“{examples[kind]}”" + (f" ({count}×)" if count > 1 else "") for kind, count in counts.most_common(limit)]
    return ", ".join(shown + [f"{len(counts) - limit} more kinds"] * (len(counts) > limit)) or "nothing"


@contextlib.contextmanager
def hearing() -> Iterator[list[str]]:
    """A list that gets what this process warns of, instead of the terminal."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    heard: list[str] = []
    logger, keep = logging.getLogger("absl"), Keep(logging.WARNING)
    handlers, logger.handlers = logger.handlers, [keep]
    try:
        yield heard
    finally:
        logger.handlers = handlers


def progress(what: str) -> None:
    """A line for whoever waits; the rows go to the other stream."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def in_namespace() -> None:
    """Goes on in a mount namespace of its own, where file systems can be mounted, if this process is not in one."""
    if "--in-namespace" in sys.argv:
        sys.argv.remove("--in-namespace")
        return
    unshare = ["unshare", "--mount", "--map-root-user", sys.executable, "-m", sys.modules["__main__"].__spec__.name]
    sys.exit(subprocess.call([*unshare, *sys.argv[1:], "--in-namespace"]))


def mount(folder: pathlib.Path, num_bytes: int) -> pathlib.Path:
    """A file system of this size at the folder; mounted again, it only gets another size."""
    folder.mkdir(exist_ok=True)
    how = "remount," if folder.is_mount() else ""
    options = f"{how}size={num_bytes // 1024}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    return folder
