"""The meter of processor time, on processes of known work."""

import subprocess
import sys
import time

import pytest

from prefrec_ray.planning.calibration import DRIVER, SYSTEM, Meter

WORK = """
import time
begin = time.process_time()
block = bytearray({size})
while time.process_time() - begin < {seconds}:
    pass
"""


def test_work_of_this_process_of_others_and_of_tasks_is_separated() -> None:
    """A process with the title of one of Ray's tasks counts as this task. Work before the meter does not count."""
    exec(WORK.format(size=0, seconds=0.3))
    task = f"exec -a ray::work {sys.executable} -c '{WORK.format(size=100_000_000, seconds=1.0)}'"
    begin = time.process_time()
    with Meter() as meter:
        exec(WORK.format(size=0, seconds=0.5))
        subprocess.run(["bash", "-c", task], check=True)
        subprocess.run([sys.executable, "-c", WORK.format(size=0, seconds=0.5)], check=True)
    assert meter.seconds[DRIVER] == pytest.approx(time.process_time() - begin, abs=0.1)  # with Ray's threads, if any
    assert meter.seconds[DRIVER] > 0.45
    assert 0.85 < meter.seconds["work"] < 1.2
    assert 0.35 < meter.seconds[SYSTEM] < 1.0  # with Ray's processes, if any
    assert 1e8 < meter.memory["work"] < 1.5e8
