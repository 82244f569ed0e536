"""Asynchronous transfer from the host to a device: pinned memory, one batch ahead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor

Batch = dict[str, Tensor]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` of the host on `device`; a copy to a GPU is queued with the GPU's work."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches on `device`, each made and copied on its own stream while the previous one is in use.

    `batches` come to the device by copies that are queued on the current stream. A device other than a GPU has no
    streams; there only one batch is made ahead.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    following = _copied(batches, stream)
    while following is not None:
        (batch, copied), following = following, _copied(batches, stream)
        if stream is not None and copied is not None:
            current = torch.cuda.current_stream(device)
            current.wait_event(copied)
            for values in batch.values():
                values.record_stream(current)  # its memory is not reused before that stream has finished with it
        yield batch


def _copied(batches: Iterator[Batch], stream: torch.cuda.Stream | None) -> tuple[Batch, torch.cuda.Event | None] | None:
    """Return the next batch and the event after its copy; None at the end."""
    with nullcontext() if stream is None else torch.cuda.stream(stream):
        batch = next(batches, None)
        return None if batch is None else (batch, None if stream is None else stream.record_event())
