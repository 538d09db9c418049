"""Official splits by number: a run for each, and the mean over them.

UCF101 and HMDB51 have three splits, and their number is the mean accuracy over the three ("Look, Listen, and Attend",
section 5). Split n of a run in `runs/name` is a run of its own, in `runs/name/split<n>`.
"""

import json
import os
import re
import statistics
from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from cmav import tables
from cmav.errors import UserError

_NO_RESULTS = ("C", "seconds")  # Among the numbers, but chosen, or of the machine.


def parse(text: str) -> list[int]:
    """Numbers of splits from a flag: "1,2,3".

    Raises:
      UserError: where it is not different positive whole numbers with commas between them.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if re.fullmatch(r"0*[1-9][0-9]*", part)]
    if len(numbers) != len(parts) or len(set(numbers)) != len(numbers):
        raise UserError(f"--splits={text}: give numbers of official splits, each once, such as --splits=1,2,3.")
    return numbers


def numbered(config: ConfigDict, workdir: str, number: int) -> tuple[ConfigDict, str]:
    """The config of the run on one split, and the run's folder.

    Args:
      config: whose `data.train_split` and `data.eval_split` end in a number, such as "train1".
      workdir: that the runs have in common; local or gs://.
      number: of the split.

    Raises:
      UserError: where the names of the splits do not end in a number.
    """
    config = config.copy_and_resolve_references()
    for key in ("train_split", "eval_split"):
        stem = config.data[key].rstrip("0123456789")
        if stem == config.data[key]:
            raise UserError(
                f"--splits: config.data.{key}={stem!r} is not the name of an official split, which ends in a number "
                "(train1 and test1). Name the first, and --splits counts from there."
            )
        config.data[key] = f"{stem}{number}"
    return config, os.path.join(workdir, f"split{number}")


def report(rows: Mapping[int, Mapping[str, Any]], workdir: epath.Path) -> None:
    """Prints the table of `to_markdown` and writes it to `splits.md`, and the numbers to `splits.json`.

    Args:
      rows: numbers by split, as `cmav.training.summary.flatten` gives them.
      workdir: that the runs have in common.
    """
    mean, deviation = over_splits(rows)
    workdir.mkdir(parents=True, exist_ok=True)
    numbers = {"splits": {str(number): dict(row) for number, row in rows.items()}, "mean": mean, "std": deviation}
    (workdir / "splits.json").write_text(json.dumps(numbers, indent=2))
    table = to_markdown(rows)
    (workdir / "splits.md").write_text(table + "\n")
    print(f"{table}\nwrote {workdir / 'splits.json'} and {workdir / 'splits.md'}")


def over_splits(rows: Mapping[int, Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and sample standard deviation of each metric that all splits have; of one split, no deviation.

    No mean is taken of counts, which are whole numbers, and of intervals: theirs would be no interval.
    """
    first, *others = rows.values()
    shared = [key for key in first if all(key in row for row in others)]
    averaged = [key for key in shared if isinstance(first[key], float) and key not in _NO_RESULTS]
    values = {key: [row[key] for row in rows.values()] for key in averaged}
    mean = {key: statistics.fmean(column) for key, column in values.items()}
    deviation = {key: statistics.stdev(column) for key, column in values.items() if len(column) > 1}
    return mean, deviation


def to_markdown(rows: Mapping[int, Mapping[str, Any]]) -> str:
    """A row for each split, 95% intervals in brackets, then mean and standard deviation over the splits."""
    mean, deviation = over_splits(rows)
    metrics = [key for key in next(iter(rows.values())) if not key.endswith("_interval")]
    named = {**rows, "mean": mean, "std": deviation}
    lines = [[str(name), *(_cell(row, key) for key in metrics)] for name, row in named.items()]
    return tables.markdown(["split", *metrics], lines)


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key, "")
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    if f"{key}_interval" in row:
        low, high = row[f"{key}_interval"]
        text += f" ({low:.4f}–{high:.4f})"
    return text
