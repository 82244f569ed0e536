"""Flip single bits in the files of a server, and compare the start after each flip with the start before.

`python bit_flips.py FOLDER SEED FIRST LAST` prints a line for each flip, so that a caller notices a signal.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from platform_desk import Desk, make_policy

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events import log as log_module
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.logs.events.segments import compact, same
from prefrec_ray.mdp.frozen import at_once
from prefrec_ray.serving.requests.bodies import Feedback, Recommend

NOW = 1_700_000_000_000
#: Kinds of files: a pattern of names in the folder, and a choice among the matches.
KINDS = {
    "events, closed file": ("state/events/*.arrow", slice(1, -1)),
    "events, last file": ("state/events/*.arrow", slice(-1, None)),
    "events, compacted file": ("state/events/*.parquet", slice(None)),
    "snapshot": ("state/snapshots/*/**/*", slice(None)),
    "log.json": ("state/log.json", slice(None)),
    "items.parquet": ("state/items.parquet", slice(None)),
    "policy bundle": ("policy/*", slice(None)),
}


def build(folder: Path) -> None:
    """Make a policy, and the folder of a server: closed, compacted and open files, a snapshot."""
    make_policy().save(str(folder / "policy"))
    size, log_module.SEGMENT_BYTES = log_module.SEGMENT_BYTES, 12_000
    for turn in range(3):
        desk = Desk(folder / "policy", folder / "state")
        for user in range(8):
            clock = NOW + 1_000 * (8 * turn + user)
            shown = desk.one(Recommend(user=user, k=3, features={"country": "de"}), clock)
            body = Feedback(event_id=shown["event_id"], item=shown["items"][0], feedback={"like": 1.0, "watch": 0.5})
            desk.one(body, clock + 10)
            desk.one(Feedback(event_id=f"own-{clock}", user=user, item=1, feedback={"watch": 0.25}), clock + 20)
        desk.engine.log.commit([Event(Kind.ITEM, clock, items=[50 + turn], embedding=[0.5, 0.25, turn / 4])])
        desk.stop()
        if turn == 1:
            Desk(folder / "policy", folder / "state").stop(save=True)
            _compact_one(folder / "state")
    log_module.SEGMENT_BYTES = size


def _compact_one(state: Path) -> None:
    """Compact the second file."""
    for number, file in enumerate(sorted((state / "events").glob("*.arrow"))):
        os.utime(file, (1_000, 1_000) if number == 1 else None)
    assert compact(str(state), 2_000) == 1


class Start:
    """A start of the server in `folder`: the rows of its log, and everything else that it serves from."""

    def __init__(self, folder: Path) -> None:
        desk = Desk(folder / "policy", folder / "state")
        try:
            self.notes, state = desk.opened.notes, desk.opened.state
            rows = pa.concat_tables(desk.opened.log.tables()).combine_chunks()
            self.rows = rows.filter(pc.not_equal(rows["kind"], int(Kind.SKIPPED)))
            self.next = desk.opened.log.next
            states = np.stack(list(desk.states(NOW + 10**8).values()))
            served = state.policy.serve(states, 3, seed=1)
            answered = state.answered.freeze()
            self.served: list[Any] = [
                desk.opened.log_id,
                [one.digest for one in state.loaded],
                [
                    (user, state.users.last(row), state.users.resting(row, NOW + 10**8, math.inf).tolist())
                    for user, row in _rows(state).items()
                ],
                answered.described(),
                answered.bits.sliced(at_once)["bits"].whole().tobytes(),
                {item: added.row for item, added in state.put.items()},
                sorted(state.withdrawn),
                states.tobytes(),
                served.items.tolist(),
                served.propensities.tolist(),
                (folder / "state" / "items.parquet").read_bytes(),
            ]
        finally:
            desk.stop()


def _rows(state: Any) -> dict[Any, int]:
    return {user: row for row, user in enumerate(state.users.ids)}


class Flips:
    """Random flips in the files below `folder`, as many of each kind of file; `seed` decides which."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._whole = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        self._files = {
            kind: [path for path in sorted(folder.glob(pattern)) if path.is_file()][part]
            for kind, (pattern, part) in KINDS.items()
        }
        assert all(self._files.values()), self._files
        self._before = Start(folder)
        self._restore()
        again = Start(folder)
        assert again.served == self._before.served
        self._restore()

    def outcome(self, number: int) -> tuple[str, str]:
        """Return the kind of file of the flip `number`, and the outcome of the start."""
        generator = random.Random(f"{self._seed} {number}")
        kind = list(KINDS)[number % len(KINDS)]
        files = self._files[kind]
        (file,) = generator.choices(files, [len(self._whole[path]) for path in files])
        content = bytearray(self._whole[file])
        place = generator.randrange(len(content))
        content[place] ^= 1 << generator.randrange(8)
        file.write_bytes(content)
        try:
            return kind, self._compare(Start(self._folder))
        except UserError as error:
            line = str(error)
            return kind, "refused" if "\n" not in line and str(self._folder) in line else f"unclear: {line!r}"
        except Exception as error:
            return kind, f"failed: {file.name} byte {place}: {type(error).__name__}: {error}"
        finally:
            self._restore()

    def _compare(self, after: Start) -> str:
        before = self._before
        if same(after.rows, before.rows) and after.served == before.served:
            return "rebuilt from the log" if any("whole log is read" in note for note in after.notes) else "equal"
        kept = any("kept in" in note for note in after.notes) and after.next >= before.next
        if kept and same(after.rows, before.rows.slice(0, len(after.rows))):
            return "kept aside"
        return "changed"

    def _restore(self) -> None:
        for path in list(self._folder.rglob("*")):
            if path.is_file() and path not in self._whole:
                path.unlink()
        for path, content in self._whole.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)


def table(folder: Path, seed: int, first: int, last: int) -> Counter[tuple[str, str]]:
    """Return how often each outcome came of the flips [`first`, `last`), by kind of file."""
    flips = Flips(folder, seed)
    return Counter(flips.outcome(number) for number in range(first, last))


if __name__ == "__main__":
    os.fsync = lambda _: None
    whole = Flips(Path(sys.argv[1]), int(sys.argv[2]))
    for flip in range(int(sys.argv[3]), int(sys.argv[4])):
        print(flip, *whole.outcome(flip), sep="\t", flush=True)
