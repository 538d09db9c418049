"""Writes boxes for clips in which the sound is always at the same place, such as a talking face: a vggss.json.

    python data_prep/same_box.py --data data/grid --split validation --box 0.583 0.167 0.917 0.667 --out boxes.json

For `config.evals.localization.boxes`: each video of the split gets this box, top left bottom right as shares of its
pictures' height and width, as in `config.data.covered`.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from etils import epath

from cmav.data.clip_ids import read_clip_ids
from cmav.data.cover import is_box
from cmav.data.files import file_of
from cmav.data.index import SplitIndex
from cmav.errors import UserError


def same_box(data: str, split: str, box: Sequence[float]) -> list[dict]:
    """The entries of a vggss.json that gives each video of a split the same box (top, left, bottom, right).

    Raises:
      UserError: where the box has no area within the picture, or the split is not there.
    """
    if not is_box(box):
        raise UserError(
            f"--box {' '.join(map(str, box))}: give top left bottom right from 0 to 1, the top above the bottom, left "
            "before right."
        )
    top, left, bottom, right = box
    index = SplitIndex.load(data, split)
    ids = filter(None, read_clip_ids(index, range(len(index))))
    files = dict.fromkeys(file_of(clip_id.decode(errors="replace")) for clip_id in ids)
    return [{"file": file, "class": "", "bbox": [[left, top, right, bottom]]} for file in files]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="dataset folder")
    parser.add_argument("--split", default="validation", help="default: %(default)s")
    parser.add_argument("--box", required=True, type=float, nargs=4, metavar=("TOP", "LEFT", "BOTTOM", "RIGHT"))
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
