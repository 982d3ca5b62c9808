"""Time and memory of a piece of work, on GPU and CPU."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measured(Generic[T]):
    """What the work returned, its wall time in seconds and its peak memory in bytes."""

    value: T
    seconds: float
    peak_bytes: int


def synchronise(device: torch.device) -> None:
    """Wait until the device has done everything it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(work: Callable[[], T], device: torch.device) -> Measured[T]:
    """Run ``work`` once between two device synchronisations.

    Memory is the device's peak allocation on CUDA. On a CPU it is the peak resident size of the whole process, weights
    and interpreter included: Linux resets that mark before the work; where it cannot be reset it is the peak since
    the process began (see :func:`peak_memory_source`).
    """
    _reset_peak(device)
    synchronise(device)
    start = time.perf_counter()
    value = work()
    synchronise(device)
    seconds = time.perf_counter() - start
    return Measured(value, seconds, _peak(device))


def tidy(device: torch.device) -> None:
    """Give freed memory back, so that what ran before does not count for what is measured next."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def peak_memory_source(device: torch.device) -> str:
    """What the peak of :func:`measure` is: ``cuda``, ``rss`` (reset before the work) or ``rss-since-start``."""
    if device.type == "cuda":
        return "cuda"
    return "rss" if _reset_peak(device) else "rss-since-start"


def _reset_peak(device: torch.device) -> bool:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR_REFS.write_text("5")  # proc(5): 5 resets the peak resident set size
    except OSError:
        return False
    return True


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS
