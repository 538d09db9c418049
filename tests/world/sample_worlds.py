"""Small synthetic worlds for tests."""

from pathlib import Path

from cmav.world import synthesize_videos


def make(folder: Path, *options: str) -> Path:
    # One worker unless asked otherwise: starting processes takes longer than a few small videos.
    defaults = ["--duration", "4", "--size", "96", "--workers", "1", "--quiet"]
    assert synthesize_videos.main(["--out", str(folder), *defaults, *options]) == 0
    return folder
