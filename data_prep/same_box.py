"""Writes boxes for clips in which the sound is always at the same place, such as a talking face: a vggss.json.

    python data_prep/same_box.py --data data/grid --split validation --box 0.167 0.583 0.667 0.917 --out boxes.json

For `config.evals.localization.boxes`: each video of the split gets this box, x0 y0 x1 y1 as shares of its pictures'
width and height.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from etils import epath

from cmav.data.clip_ids import read_clip_ids
from cmav.data.files import file_of
from cmav.data.index import SplitIndex
from cmav.errors import UserError


def same_box(data: str, split: str, box: Sequence[float]) -> list[dict]:
    """The entries of a vggss.json that gives each video of a split the same box.

    Raises:
      UserError: where the box has no area within the picture, or the split is not there.
    """
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise UserError(f"--box {' '.join(map(str, box))}: give x0 y0 x1 y1 from 0 to 1, left before right, top first.")
    index = SplitIndex.load(data, split)
    ids = filter(None, read_clip_ids(index, range(len(index))))
    files = dict.fromkeys(file_of(clip_id.decode(errors="replace")) for clip_id in ids)
    return [{"file": file, "class": "", "bbox": [list(box)]} for file in files]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="dataset folder")
    parser.add_argument("--split", default="validation", help="default: %(default)s")
    parser.add_argument("--box", required=True, type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"))
    parser.add_argument("--out", required=True, help="the file to write")
    args = parser.parse_args(arguments)
    try:
        entries = same_box(args.data, args.split, args.box)
        epath.Path(args.out).write_text(json.dumps(entries, indent=1))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: the box of {len(entries)} videos")
    return 0


if __name__ == "__main__":
    sys.exit(main())
