"""Which device and arithmetic a run uses, and why."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from typing import Any

import torch

from unfreeze.errors import StudyError


@dataclass(frozen=True)
class Compute:
    """Where and in what arithmetic a run computes.

    Attributes:
        device: a torch device.
        dtype: of matrix products; parameters that train stay in float32.
        reason: why, in a few words for the records.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str

    def autocast(self) -> Any:
        """Context in which matrix products run in :attr:`dtype`."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def precision(self) -> str:
        """``fp32`` or ``bf16``."""
        return "fp32" if self.dtype == torch.float32 else "bf16"


def choose_compute(device: str, precision: str) -> Compute:
    """Resolve ``auto``: the first of CUDA, MPS and CPU that is there; bf16 where the hardware multiplies in it.

    Raises:
        StudyError: the device asked for is not on this machine.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(kind for kind, there in present.items() if there) if device == "auto" else device
    if not present[name]:
        raise StudyError(f"device: '{name}' is not on this machine; use 'auto' or 'cpu'")
    native = {
        "cuda": present["cuda"] and torch.cuda.is_bf16_supported(including_emulation=False),
        "mps": False,
        # Without avx512_bf16 (or AMX, which implies it) bf16 on a CPU is emulated and slower than fp32.
        "cpu": bool(torch.cpu.get_capabilities().get("avx512_bf16")) if name == "cpu" else False,
    }[name]
    bf16 = precision == "bf16" or (precision == "auto" and native)
    why = f"{'native' if native else 'no native'} bf16 on {name}" if precision == "auto" else "set in the recipe"
    return Compute(torch.device(name), torch.bfloat16 if bf16 else torch.float32, why)


# Parameters of glibc's mallopt: what is freed at the heap's end goes back to the system from so many bytes on, and
# blocks from so many bytes on are mapped one by one (32 MiB is the most that glibc takes).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = (-1, 1 << 30), (-3, 32 << 20)


def keep_freed_memory() -> None:
    """Have this process keep the memory that a step frees for the next one, where its C library is glibc.

    By default a step of partial-2 gives back and takes anew 1,000 to 2,000 pages: without, it is 6 % faster on one
    thread, and the peak is the same (MiniLM, SNLI).
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for parameter, value in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, value)


def random_state(compute: Compute) -> dict[str, torch.Tensor]:
    """State of the generators that dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    if compute.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(compute.device)
    if compute.device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor], compute: Compute) -> None:
    """Put back what :func:`random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], compute.device)
    if "mps" in state:
        torch.mps.set_rng_state(state["mps"])
