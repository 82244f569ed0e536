"""The section `gpu`: its code on the processor at tiny sizes, and its message without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_platform import logs_and_data

from benchmarks.speed import bare_loop as loops
from benchmarks.speed import gpu
from benchmarks.speed.bare_loop import Arrays, Networks, tuned_prefrec
from benchmarks.speed.gpu import BARE, PRECISIONS, PRODUCT, STREAMED
from benchmarks.speed.training import paper_sizes, prefrec_config
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.errors import UserError
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

SIZES = paper_sizes((8, 8), 64, 8)


def test_the_bare_loop_makes_the_updates_of_the_tuned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first, label = rng.integers(0, 90, (16, 2)), rng.choice(np.float32([0, 0.5, 1]), 16)
    inputs = rng.normal(size=(100, 5)).astype(np.float32)
    buffer = PreferenceBuffer(inputs, first, label, np.ones(16, bool), np.full(16, "one"), 10)
    columns = (torch.from_numpy(rng.normal(size=(128, width)).astype(np.float32)) for width in (3, 2, 3))
    arrays, made = Arrays(*columns, buffer), []

    def seeded(*args: Any, **more: Any) -> Networks:
        torch.manual_seed(0)
        made.append(Networks(*args, **more))
        return made[-1]

    def in_order(count: int, size: int, device: object = None) -> Iterator[torch.Tensor]:
        while True:
            yield from torch.arange(count).split(size)

    # Both take rows and pairs in order; all pairs of a mini-batch at once, or three at a time.
    monkeypatch.setattr(gpu, "_orders", in_order)
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))
    monkeypatch.setattr(Arrays, "pairs", lambda self, size, seed: (rows.numpy() for rows in in_order(16, size)))
    monkeypatch.setattr(loops, "PAIRS_PER_CHUNK", 3)
    monkeypatch.setattr(loops, "Networks", seeded)
    monkeypatch.setattr(gpu, "Networks", seeded)
    bare, tuned = gpu.bare_loop(arrays, SIZES, torch.device("cpu"), "float32"), tuned_prefrec(arrays, SIZES, 0)
    begin = [parameter.detach().clone() for parameter in made[0].parameters()]
    for _ in range(3):
        bare()
        tuned()
    # The last bias of the reward cancels exactly, and stays as it is.
    assert sum(not torch.equal(*both) for both in zip(made[0].parameters(), begin, strict=True)) == len(begin) - 1
    for actual, expected, old in zip(made[0].parameters(), made[1].parameters(), begin, strict=True):
        # Adam enlarges the rounding of sums that cancel, as of the bias of a unit that is always on.
        assert (actual - expected).norm() <= 0.1 * (actual - old).norm()


def test_an_order_is_of_whole_batches_and_another_one_in_each_pass() -> None:
    rows = gpu._orders(10, 4, torch.device("cpu"))
    passes = [torch.cat([next(rows), next(rows)]).tolist() for _ in range(2)]
    assert all(len(set(numbers)) == 8 and max(numbers) < 10 for numbers in passes)
    assert passes[0] != passes[1]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_contender_trains(tiny_dataset: str, precision: str) -> None:
    for name, how in ((PRODUCT, "materialised"), (BARE, "materialised"), (STREAMED, "streaming")):
        settings = {"transitions": how, "precision": precision}
        loaded = load_data(prefrec_config(tiny_dataset, 2, SIZES).training(**settings).data_request)
        contender = gpu._Contender(name, settings, "cpu", tiny_dataset, loaded, SIZES, 2)
        assert contender.run() > 0
        assert contender.peak() is None


def test_the_table_has_a_row_a_contender() -> None:
    rates = {"mine": [3000.0, 1000.0, 2000.0], "other": [4000.0, 4000.0, 4000.0]}
    one = {"unit": "transitions/s", "rates": rates, "ratios": {"mine / other": 0.5}}
    few = {"unit": "trials/s", "rates": {"both": [0.25]}, "ratios": {}}
    table = gpu.table({"comparisons": [one, few], "peak_gpu_gb": {"mine": 1.25, "other": None}})
    assert table.splitlines()[2:] == [
        "| mine | 2,000 transitions/s | 0.50 of other | 1.25 |",
        "| other | 4,000 transitions/s |  |  |",
        "| both | 0.25 trials/s |  |  |",
    ]


@pytest.mark.slow
def test_the_whole_section_runs(ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sections = logs_and_data(str(tmp_path))
    simulate(parse(SimulateSettings, sections["simulate"], "test"), f"{tmp_path}/logs")
    dataset = prepare(parse(PrepareSettings, sections["prepare"], "test"), f"{tmp_path}/dataset").uri
    result = gpu.measure(dataset, "cpu", SIZES, updates=3, repetitions=1)
    (trained,) = result["comparisons"]
    names = [f"{name}, {precision}" for name in (PRODUCT, BARE, STREAMED) for precision in PRECISIONS]
    assert set(trained["rates"]) == set(result["peak_gpu_gb"]) == set(names)
    assert all(len(rates) == 1 and rates[0] > 0 for rates in trained["rates"].values())
    assert set(trained["ratios"]) >= {f"{PRODUCT}, {precision} / {BARE}, {precision}" for precision in PRECISIONS}
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {name}" for name in trained["rates"]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^no GPU: torch\.cuda\.is_available\(\) is False \(torch .*\); expected "):
        gpu.main()
