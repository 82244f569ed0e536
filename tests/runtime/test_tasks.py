"""Ray tasks in bounded numbers: results in order, progress to the end, mistakes passed on."""

import time
from pathlib import Path
from typing import Any

import pytest
import ray

from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.runtime.progress import silent
from prefrec_ray.runtime.tasks import reduce_tasks, run_tasks


@ray.remote(num_cpus=1)
def slow_first(number: int) -> int:
    if number == 3:
        raise UserError("three")
    time.sleep(0.2 if number == 0 else 0.0)
    return 10 * number


def test_results_are_in_order_and_few_tasks_wait(ray_session: None) -> None:
    seen: list[tuple[str, int, int]] = []
    waiting = []

    def submit(number: int) -> ray.ObjectRef:
        waiting.append(len(waiting) + 1 - len(seen))  # the first report begins the stage
        return slow_first.remote(number)

    numbers = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    results = run_tasks(submit, numbers, "count", lambda *step: seen.append(step))
    assert results == [10 * number for number in numbers]
    assert seen == [("count", done, 10) for done in range(11)]
    assert max(waiting) < 2 * ray.cluster_resources()["CPU"]


def test_a_mistake_is_passed_on(ray_session: None) -> None:
    with pytest.raises(UserError) as caught:
        run_tasks(slow_first.remote, [1, 3], "count", lambda stage, done, total: None)
    assert str(find_user_error(caught.value)) == "three"


@ray.remote(num_cpus=1)
def fails_or_writes_on(file: Path, fails: bool) -> None:
    while fails and not file.exists():
        time.sleep(0.02)
    if fails:
        raise UserError("full")
    for _ in range(50):
        with file.open("a") as stream:
            stream.write(".")
        time.sleep(0.02)


def test_when_one_fails_the_others_have_ended(ray_session: None, tmp_path: Path) -> None:
    """Otherwise they would write files again after their folder was removed."""
    file = tmp_path / "written"
    with pytest.raises(UserError, match="full"):
        run_tasks(lambda fails: fails_or_writes_on.remote(file, fails), [False, True], "write", lambda *step: None)
    assert len(file.read_text()) == 50


@ray.remote(num_cpus=1)
def letter(number: int) -> str:
    return chr(97 + number)


@ray.remote(num_cpus=1)
def in_brackets(*parts: str) -> str:
    return f"({''.join(parts)})"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, "a"), (3, "(abc)"), (8, "(abcdefgh)"), (10, "((abcdefgh)(ij))"), (17, "((abcdefgh)(ijklmnop)(q))")],
)
def test_a_tree_of_merges_has_one_shape(ray_session: None, count: int, expected: str) -> None:
    seen: list[tuple[int, int]] = []
    tree = reduce_tasks(letter.remote, in_brackets, range(count), "tree", lambda stage, *rest: seen.append(rest))
    assert ray.wait([tree], timeout=0)[0] == [tree]
    assert ray.get(tree) == expected
    assert (seen[0], seen[-1]) == ((0, count), (count, count))
    assert seen == sorted(seen)


def test_a_signal_is_obeyed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM raises `SystemExit` in `ray.wait`. The other tasks are not waited for, unlike after an error."""
    waits: list[float | None] = []

    def wait(pending: Any, num_returns: int = 1, timeout: float | None = None) -> Any:
        waits.append(timeout)
        raise SystemExit(143)

    monkeypatch.setattr("ray.wait", wait)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(SystemExit):
        run_tasks(lambda number: object(), [1, 2], "count", silent)
    assert waits == [None]
