"""Training on a GPU, unattended: `python -m benchmarks gpu [--dataset DATASET]`, or `make bench-gpu`.

Without DATASET it simulates and prepares one. Each contender has a process of its own on the same GPU, and its data on
it but for `transitions: streaming`; the tuned bare loop gathers its batches there too, takes all pairs of a mini-batch
at once and one gradient a network. An update is the paper's (Table 1), an iteration of the product ends with its
diagnostics. Prints a table for docs/results.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import torch
from torch import Tensor

from benchmarks.harness import FOLDER, Comparison, Contender, compared, interleave, make_data, markdown
from benchmarks.speed.bare_loop import Arrays, Networks, Sizes, prefrec_updates
from benchmarks.speed.training import load_arrays, prefrec_config, repeated, share_of_paper
from prefrec_ray.algorithms.feed.load import LoadedData, load_data
from prefrec_ray.algorithms.losses import preference_logit, preference_loss
from prefrec_ray.algorithms.reward.update import autocast
from prefrec_ray.errors import UserError
from prefrec_ray.runtime import start_ray

#: 780,000 transitions.
WORLD = {"users": 4000, "requests": 250, "shards": 16}
BARE, PRODUCT, STREAMED = "tuned bare PrefRec", "PrefRec", "PrefRec, streaming"
#: Settings by their name in a table.
PRECISIONS = {"float32": "float32", "bf16": "bf16_always"}


def bare_loop(arrays: Arrays, sizes: Sizes, device: torch.device, precision: str) -> Callable[[], None]:
    """One call is one update of V, Q and actor and one of the reward, all on `device`."""
    net, preferences = Networks(arrays, sizes, twin=False).to(device), arrays.preferences
    parameters = list(net.reward.parameters())
    table = [values.to(device) for values in (arrays.obs, arrays.action, arrays.next_obs)]
    first, label = (torch.tensor(values, device=device) for values in (preferences.first, preferences.label))
    # Stored like in the product: half the bytes if products round them anyway.
    inputs = torch.tensor(preferences.inputs, device=device)
    inputs = inputs.view(torch.bfloat16) if inputs.dtype == torch.int16 else inputs
    steps = torch.arange(preferences.length, device=device)
    pairs = _orders(len(label), sizes.pairs, device)

    def batches() -> Iterator[list[Tensor]]:
        for rows in _orders(len(table[0]), sizes.transitions, device):
            yield [values.index_select(0, rows) for values in table]

    def update_reward() -> None:
        chosen = next(pairs)
        sides = [inputs[begin[:, None] + steps] for begin in first[chosen].T]
        loss = preference_loss(preference_logit(*(net.reward(side).sum(-1) for side in sides)), label[chosen])
        net.apply_gradient("reward", torch.autograd.grad(loss, parameters))

    update = prefrec_updates(net, net.step_alone, update_reward, batches(), sizes)

    def one() -> None:
        with autocast(device.type, precision):
            update()

    return one


def _orders(count: int, size: int, device: torch.device) -> Iterator[Tensor]:
    """Endless numbers [size] of rows, each pass in its own order."""
    while True:
        yield from torch.randperm(count, device=device).split(size)[: count // size]


class _Contender:
    """Trains in a process of its own: its peak of GPU memory is its own too."""

    def __init__(
        self, name: str, settings: dict[str, str], device: str, uri: str, loaded: LoadedData, sizes: Sizes, updates: int
    ) -> None:
        self._device = torch.device(device)
        if name == BARE:
            one = bare_loop(load_arrays(uri, loaded), sizes, self._device, settings["precision"])
            self._run: Contender = repeated(one, updates)
        else:
            config = prefrec_config(uri, updates, sizes).training(**settings)
            config.learners(num_gpus_per_learner=int(device != "cpu")).offline_data(loaded_data=loaded)
            self._run = config.build_algo().train

    def run(self) -> float:
        """Seconds of an iteration, until the GPU is done."""
        begin = time.perf_counter()
        self._run()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def peak(self) -> float | None:
        """Return the peak of GPU memory of tensors in GB; None on the processor."""
        return torch.cuda.max_memory_allocated() / 1e9 if self._device.type == "cuda" else None


def training(
    uri: str, device: str, sizes: Sizes, updates: int, repetitions: int
) -> tuple[Comparison, dict[str, float | None]]:
    """Transitions a second of each contender, and its peak of GPU memory in GB."""
    # Contenders run one after another. Ray's resources only let all of them exist at once.
    make = ray.remote(num_cpus=0, num_gpus=0.1 if device != "cpu" else 0)(_Contender)
    contenders: dict[str, Any] = {}
    for how, names in (("materialised", (PRODUCT, BARE)), ("streaming", (STREAMED,))):
        loaded: LoadedData | None = None
        for precision, setting in PRECISIONS.items():
            settings = {"transitions": how, "precision": setting}
            loaded = load_data(prefrec_config(uri, updates, sizes).training(**settings).data_request, loaded)
            for name in names:
                contenders[f"{name}, {precision}"] = make.remote(name, settings, device, uri, loaded, sizes, updates)
    runs: dict[str, Contender] = {
        name: lambda actor=actor: ray.get(actor.run.remote())  # type: ignore[misc]
        for name, actor in contenders.items()
    }
    rates = interleave(runs, updates * sizes.transitions, repetitions)
    peaks = {name: ray.get(actor.peak.remote()) for name, actor in contenders.items()}
    for actor in contenders.values():
        ray.kill(actor)
    pairs = [(f"{PRODUCT}, {p}", f"{BARE}, {p}") for p in PRECISIONS]
    pairs += [(f"{STREAMED}, {p}", f"{PRODUCT}, {p}") for p in PRECISIONS]
    pairs += [(f"{name}, bf16", f"{name}, float32") for name in (PRODUCT, BARE)]
    return Comparison("training", "transitions/s", rates, pairs), peaks


def measure(uri: str, device: str, sizes: Sizes, updates: int, repetitions: int) -> dict[str, Any]:
    """Trains on `device` and prints the table."""
    start_ray()
    about = gpu()
    trained, peaks = training(uri, device, sizes, updates, repetitions)
    result = compared(trained, gpu=about, peak_gpu_gb=peaks)
    print(f"\n{', '.join(f'{name} {value}' for name, value in about.items())}\n\n{table(result)}")
    return result


def table(result: dict[str, Any]) -> str:
    """A row a contender: its median, its ratios to others, its peak of memory."""
    rows = []
    for one in result["comparisons"]:
        for name, rates in one["rates"].items():
            beside = [
                f"{ratio:.2f} of {pair.partition(' / ')[2]}"
                for pair, ratio in one["ratios"].items()
                if pair.partition(" / ")[0] == name
            ]
            peak = result["peak_gpu_gb"].get(name)
            rate = f"{statistics.median(rates):,.3g}" if rates[0] < 1000 else f"{statistics.median(rates):,.0f}"
            rows.append((name, f"{rate} {one['unit']}", "; ".join(beside), "" if peak is None else f"{peak:.2f}"))
    return markdown(("", "median", "beside", "peak of GPU memory, GB"), rows)


def gpu() -> dict[str, Any]:
    """Return the description of the GPU; values are None without one."""
    there = torch.cuda.is_available()
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    known = there and shutil.which("nvidia-smi")
    driver = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.split() if known else []
    return {
        "name": torch.cuda.get_device_name() if there else None,
        "memory_gb": round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1) if there else None,
        "driver": driver[0] if driver else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
    }


def main(dataset: Path | None = None, updates: int = 200, repetitions: int = 5) -> dict[str, Any]:
    """`updates` of an iteration (a pass over the standard data)."""
    if not torch.cuda.is_available():
        raise UserError(
            f"no GPU: torch.cuda.is_available() is False (torch {torch.__version__}); expected a machine with one, and "
            "PyTorch built for it"
        )
    if dataset is None:
        make_data("gpu_logs", WORLD, "gpu_dataset")
        dataset = FOLDER / "gpu_dataset"
    return measure(str(dataset.resolve()), "cuda", share_of_paper(), updates, repetitions)
