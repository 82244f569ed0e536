"""The tests' S3 server as a process of its own: `python store.py FOLDER ADDRESS`; SIGUSR1: it answers 503 for 20 s.

Prints what its clients need in their environment as a line of JSON, and at each request refused another line.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

from s3_server import s3_server

AWAY = 20.0


def main() -> None:
    """Serves until it is ended."""
    with s3_server(Path(sys.argv[1]), sys.argv[2]) as proxy:
        print(json.dumps(proxy.environment), flush=True)

        def go_away(number: int, frame: object) -> None:
            proxy.away_until = time.monotonic() + AWAY

        signal.signal(signal.SIGUSR1, go_away)
        refused = 0
        while True:
            time.sleep(0.2)
            if proxy.refused > refused:
                refused = proxy.refused
                print(refused, flush=True)


if __name__ == "__main__":
    main()
