"""Memory of a CUDA device as its driver counts it: with the context, workspaces and the allocator's free blocks."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes in use, and whose.

    Attributes:
        used: in bytes.
        source: ``nvml``, this process's as NVML counts it, or ``device``, everybody's on the device, where NVML is not
            there or does not know this process (as in a container).
    """

    used: int
    source: str


def device_memory(device: torch.device) -> DeviceMemory | None:
    """What is in use now; None on anything but CUDA.

    torch's allocator keeps what it once had (until :func:`kgt_editor.lm.meter.tidy`), so after some work this is its
    peak.
    """
    if device.type != "cuda":
        return None
    own = _of_this_process(device)
    if own is not None:
        return DeviceMemory(own, "nvml")
    free, total = torch.cuda.mem_get_info(device)
    return DeviceMemory(total - free, "device")


def _of_this_process(device: torch.device) -> int | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        try:
            # By its UUID: NVML counts all devices of the machine, CUDA those that are visible.
            uuid = str(torch.cuda.get_device_properties(device).uuid).removeprefix("GPU-")
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        finally:
            pynvml.nvmlShutdown()
    except (pynvml.NVMLError, AttributeError):  # no driver, a part of a device, or a torch that gives no UUID
        return None
    used = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    return int(used[0]) if used and used[0] else None


def driver_version() -> str | None:
    """NVIDIA's driver on this machine, as ``580.159.04``; None where there is none, or no NVML to ask."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
