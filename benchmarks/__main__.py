"""All benchmarks one after another: `python -m benchmarks [--output DIR] [SECTION ...]`, or `make bench`.

Each runs in a process of its own on the same simulated data set, which is made first where DIR has none, prints its
table and writes DIR/SECTION.json. Sizes are such that all take some 17 minutes on two cores; `python -m
benchmarks.SECTION` runs one at other sizes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

#: The options of each, beside the data set (a log folder for `sessions`). 24 updates are a quarter of an epoch of this
#: data set: an iteration of `train` where nothing is said.
SECTIONS: dict[str, list[str]] = {
    "training": ["--updates", "24"],
    "data_path": ["--updates", "30"],
    "reward": ["--updates", "3"],
    "learners": ["--updates", "5"],
    "evaluation": [],
    "sessions": [],
    "peers": ["--updates", "20"],
    "step_time": [],
}


def main() -> None:
    """Runs the sections asked for; exits with status 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--output", type=Path, default=Path("bench"))
    parser.add_argument("--d3rlpy", help="python of an environment with d3rlpy, for `peers`")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(SECTIONS)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "benchmarks.simulated", str(arguments.output)], check=True)
    failed = []
    for section in arguments.sections or SECTIONS:
        data = arguments.output / ("large_logs" if section == "sessions" else "dataset")
        command = [sys.executable, "-m", f"benchmarks.{section}", str(data), *SECTIONS[section]]
        command += ["--json", str(arguments.output / f"{section}.json")]
        if section == "peers" and arguments.d3rlpy:
            command += ["--d3rlpy", arguments.d3rlpy]
        begin = time.monotonic()
        status = subprocess.run(command, check=False).returncode
        print(f"  [{section}: {time.monotonic() - begin:.0f} s]\n", flush=True)
        failed += [section] if status else []
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
