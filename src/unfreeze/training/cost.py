"""What a run cost: memory and arithmetic, measured where they can be, None where not."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from unfreeze.training.device import Compute


def reset_peak_memory(compute: Compute) -> None:
    """Forget earlier peaks, where the device can."""
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)


def peak_memory_bytes(compute: Compute, own_process: bool) -> int | None:
    """Peak of the device's allocator on CUDA, of this process's resident memory on a CPU.

    A CPU's peak belongs to a run only where the run has a process of its own; else, and on MPS, it is None.
    """
    if compute.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(compute.device))
    if compute.device.type == "cpu" and own_process:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


@contextmanager
def count_flops(found: list[float]) -> Iterator[None]:
    """Append the floating-point operations of the block, as torch counts its matrix products and attention."""
    with FlopCounterMode(display=False) as counter:
        yield
    found.append(float(counter.get_total_flops()))
