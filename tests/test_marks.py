"""A test that is not marked `ray` cannot start it: `make check` stays free of Ray's processes."""

import subprocess
import sys

import pytest
import ray

from prefrec_ray.errors import UserError
from prefrec_ray.runtime import start_ray


def test_ray_does_not_start_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # by tests before this one, in the same process
    with pytest.raises(UserError, match="a test that starts Ray is marked `ray`"):
        start_ray()
    with pytest.raises(pytest.fail.Exception, match="is marked `ray`"):
        ray.init(address="local")


def test_nor_in_a_process_of_its_own() -> None:
    code = "from prefrec_ray.runtime import start_ray; start_ray()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "a test that starts Ray is marked `ray`" in done.stderr
