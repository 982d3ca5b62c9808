"""NVML and the driver, stood in for by what they say."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest
import torch

from kgt_editor.lm.device_memory import DeviceMemory, device_memory

CUDA = torch.device("cuda")


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """A stand-in for pynvml on a machine with one CUDA device of 100 bytes, 40 of them free."""
    asked = []
    fake = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: asked.append("init"),
        nvmlShutdown=lambda: asked.append("shutdown"),
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: fake.processes,
        processes=[SimpleNamespace(pid=1, usedGpuMemory=30), SimpleNamespace(pid=os.getpid(), usedGpuMemory=20)],
        asked=asked,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40, 100))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-ab"))
    return fake


def test_nvml_says_what_this_process_uses(nvml):
    assert device_memory(CUDA) == DeviceMemory(20, "nvml")
    assert nvml.asked == ["init", "GPU-12-ab", "shutdown"]


@pytest.mark.parametrize("processes", [[], [SimpleNamespace(pid=os.getpid(), usedGpuMemory=None)]])
def test_where_it_does_not_know_the_process_the_whole_device_is_given(nvml, processes):
    nvml.processes = processes
    assert device_memory(CUDA) == DeviceMemory(60, "device")


def test_without_a_driver_or_without_nvml_too(nvml, monkeypatch):
    def fails():
        raise NVMLError("driver not loaded")

    nvml.nvmlInit = fails
    assert device_memory(CUDA) == DeviceMemory(60, "device")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert device_memory(CUDA) == DeviceMemory(60, "device")


def test_a_processor_has_no_memory_of_its_own(nvml):
    assert device_memory(torch.device("cpu")) is None
    assert nvml.asked == []
