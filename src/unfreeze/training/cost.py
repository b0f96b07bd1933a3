"""What a run cost: memory and arithmetic, measured where they can be, None where not."""

from __future__ import annotations

import importlib.util
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from unfreeze.training.batching import padded_width
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


class Phases:
    """Seconds spent in each phase of training, without making a GPU wait: there, events are read at the end."""

    def __init__(self, compute: Compute) -> None:
        self._on_gpu = compute.device.type == "cuda"
        self._marks: list[tuple[str | None, Any]] = []

    def mark(self, phase: str | None) -> None:
        """Say what begins now; None ends the last phase."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
        self._marks.append((phase, event if self._on_gpu else time.perf_counter()))

    def collect(self, seconds: dict[str, float]) -> None:
        """Add what was measured since the last call to ``seconds``, by phase."""
        if self._on_gpu:
            torch.cuda.synchronize()
        for (phase, start), (_, end) in pairwise(self._marks):
            if phase:
                took = start.elapsed_time(end) / 1000 if self._on_gpu else end - start
                seconds[phase] = seconds.get(phase, 0.0) + took
        self._marks.clear()


POWERCAP = Path("/sys/class/powercap")


def energy_counter(compute: Compute) -> float | None:
    """Joules the device (CPU packages through RAPL, a GPU through NVML) has used since some moment in the past.

    None where no counter can be read: RAPL's are often root's alone, NVML needs the package nvidia-ml-py.
    """
    if compute.device.type == "cpu":
        packages = [path for path in POWERCAP.glob("intel-rapl:*") if path.name.count(":") == 1]
        try:
            return sum(int((path / "energy_uj").read_text()) for path in packages) / 1e6 if packages else None
        except OSError:
            return None
    if compute.device.type == "cuda" and importlib.util.find_spec("pynvml"):
        nvml = importlib.import_module("pynvml")
        try:
            nvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(compute.device).uuid}"
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(nvml.nvmlDeviceGetHandleByUUID(uuid))) / 1e3
        except nvml.NVMLError:
            return None
    return None


@contextmanager
def count_saved_bytes(parameters: Iterable[torch.Tensor], found: list[int]) -> Iterator[None]:
    """Append the bytes that autograd saves in the block for the backward pass, parameters left out."""
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
    found.append(sum(saved.values()))


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors that hold data (those on the meta device do not)."""
    return sum(tensor.nbytes for tensor in tensors if tensor.device.type != "meta")


@contextmanager
def count_flops(found: list[float]) -> Iterator[None]:
    """Append the floating-point operations of the block, as torch counts its matrix products and attention."""
    with FlopCounterMode(display=False) as counter:
        yield
    found.append(float(counter.get_total_flops()))


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of training steps, forward and backward.

    Those of an example are a quadratic in the tokens that its batch is padded to: linear maps do as much for every
    token, attention for every pair of them, the head for every example.

    Attributes:
        coefficients: of the quadratic, the highest power first; one alone where all examples have the same length.
    """

    coefficients: tuple[float, ...]

    @classmethod
    def count(
        cls, step: Callable[[np.ndarray], object], batches: Sequence[np.ndarray], lengths: np.ndarray
    ) -> StepFlops:
        """Count them on three of the batches: the shortest, the one in the middle and the longest tell a quadratic.

        Args:
            step: does the forward and backward pass of a batch.
            batches: of one epoch.
            lengths: tokens of each example.
        """
        by_length = {padded_width(lengths, batch): batch for batch in batches}
        found = sorted(by_length)
        chosen = sorted({found[0], found[len(found) // 2], found[-1]})
        flops: list[float] = []
        for length in chosen:
            with count_flops(flops):
                step(by_length[length])
        of_each = [total / len(by_length[length]) for total, length in zip(flops, chosen, strict=True)]
        return cls(tuple(map(float, np.polyfit(chosen, of_each, len(chosen) - 1))))

    def of(self, batches: Sequence[np.ndarray], lengths: np.ndarray) -> np.ndarray:
        """Of each batch, shape (batches,)."""
        padded = np.array([padded_width(lengths, batch) for batch in batches])
        flops: np.ndarray = np.polyval(self.coefficients, padded) * [len(batch) for batch in batches]
        return flops
