"""Makes every fault and prints the table of docs/reliability.md: `python -m tests.faults`; hours on two cores."""

import importlib.util
import subprocess
import sys

FAULTS = ("kills", "sigterm", "full_disk", "bit_flips", "flaky_reads", "workers", "hostile_files")


def main(arguments: list[str]) -> int:
    print("| fault | command | what was lost | what was said |\n| --- | --- | --- | --- |", flush=True)
    codes = []
    for name in FAULTS:
        module = f"tests.faults.{name}"
        if importlib.util.find_spec(module) is None:
            print(f"no {module}", file=sys.stderr)
            continue
        codes.append(subprocess.call([sys.executable, "-m", module, *arguments]))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
