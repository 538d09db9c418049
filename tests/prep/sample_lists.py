"""Files of labelled sets, empty, and their lists, for the tests that read lists."""

import pathlib


def touch(folder: pathlib.Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def write(folder: pathlib.Path, **lists: str) -> pathlib.Path:
    """Writes text files; `__` in a name stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder
