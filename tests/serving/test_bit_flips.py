"""No flipped bit in a file of a server silently changes its service or ends it by a signal."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bit_flips import KINDS, build, table

FINE = {"refused", "rebuilt from the log", "kept aside", "equal"}


def test_some_flips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    build(tmp_path)
    found = table(tmp_path, 0, 0, 64)
    assert {outcome for _, outcome in found} <= FINE
    assert {kind for kind, _ in found} == set(KINDS)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_thousand_flips(tmp_path: Path) -> None:
    """In four processes; one that a signal ends is started again behind the flip that ended it."""
    build(tmp_path / "whole")
    edges = range(0, 20_001, 5_000)

    def part(number: int) -> Counter[tuple[str, str]]:
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", folder)
        first, last = edges[number], edges[number + 1]
        helpers = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
        found: Counter[tuple[str, str]] = Counter()
        while first < last:
            command = [sys.executable, Path(__file__).with_name("bit_flips.py"), folder, "1", str(first), str(last)]
            done = subprocess.run(command, env=helpers | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
            lines = [line.split("\t") for line in done.stdout.splitlines()]
            found.update((kind, outcome) for _, kind, outcome in lines)
            first += len(lines)
            assert done.returncode <= 0, done.stderr
            if done.returncode:
                found[list(KINDS)[first % len(KINDS)], f"signal {-done.returncode}"] += 1
                first += 1
        return found

    with ThreadPoolExecutor(len(edges) - 1) as pool:
        found = sum(pool.map(part, range(len(edges) - 1)), Counter())
    for (kind, outcome), count in sorted(found.items()):
        print(f"{kind:26} {outcome:22} {count:6}")
    assert found.total() == 20_000
    assert {outcome for _, outcome in found} <= FINE
