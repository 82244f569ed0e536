"""Serves from a small disk until it is full, makes room, and goes on: `python fill_disk.py POLICY DISK`."""

import shutil
import sys
from collections import Counter
from pathlib import Path

from platform_desk import Desk
from served import serving

from prefrec_ray.logs.events.format import Kind

bundle, disk = sys.argv[1], Path(sys.argv[2])
filler = disk / "filler"
acknowledged, statuses = [], Counter()
with serving(bundle, disk / "state") as process:
    client = process.client()
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - (200 << 10)))
    for turn in range(4_000):
        status, answer = client.ask("POST", "/recommend", {"user": turn % 50, "k": 1})
        statuses[status] += 1
        if status == 507:
            assert "nothing was written" in answer["detail"]
            if statuses[507] == 20:
                assert client.ask("GET", "/healthz")[0] == 507
                filler.unlink()
                assert client.ask("GET", "/healthz")[0] == 200
        else:
            assert status == 200, answer
            acknowledged.append(answer["event_id"])
        if statuses[507] >= 20 and statuses[200] > 100 and len(acknowledged) % 100 == 0:
            break
    assert statuses[507] == 20
    assert client.ask("POST", "/recommend", {"user": 1})[0] == 200
    process.kill()
desk = Desk(bundle, disk / "state")
rows = [row for table in desk.engine.log.tables() for row in table.to_pylist()]
counts = Counter(row["event_id"] for row in rows if row["kind"] == Kind.RECOMMENDED)
assert set(acknowledged) <= set(counts)
assert set(counts.values()) == {1}
assert len(acknowledged) > 100
print(f"{len(acknowledged)} acknowledged: all of them are there")
