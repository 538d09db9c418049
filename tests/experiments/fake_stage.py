"""A command for experiments: writes its seed as a number, or fails, or waits for a signal."""

import argparse
import json
import pathlib
import signal
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--value", type=float, default=0)
parser.add_argument("--add", type=float, default=0)
parser.add_argument("--times", type=float, default=1)
parser.add_argument("--parameters", type=int)
parser.add_argument("--error", type=float)
parser.add_argument("--fail_at", type=float)
parser.add_argument("--wait", action="store_true")
args = parser.parse_args()

with (args.out.parent / "starts").open("a") as file:
    file.write("x")
if args.wait:
    signal.signal(signal.SIGTERM, lambda *_: (args.out.with_suffix(".saved").touch(), sys.exit(143)))
    (args.out.parent / "waiting").touch()
    time.sleep(60)
if args.value == args.fail_at:
    print("what went wrong")
    sys.exit(3)
score = args.times * (args.value + args.add)
numbers = {"judge/score": score, "judge/score_low": 0.0, "judge/score_high": 1.0}
more = {"parameters": args.parameters, "judge/error": args.error}
args.out.write_text(json.dumps({**numbers, **{key: value for key, value in more.items() if value is not None}}))
