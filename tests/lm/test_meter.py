from __future__ import annotations

import time

import torch

from kgt_editor.lm import meter

CPU = torch.device("cpu")


def test_time_and_value_of_the_work():
    found = meter.measure(lambda: time.sleep(0.05) or "done", CPU)
    assert found.value == "done"
    assert 0.05 <= found.seconds < 1.0


def test_a_large_allocation_shows_and_then_goes_away():
    meter.tidy(CPU)
    small = meter.measure(lambda: None, CPU).peak_bytes
    large = meter.measure(lambda: torch.ones(50_000_000).sum(), CPU).peak_bytes
    assert large - small > 150_000_000
    if meter.peak_memory_source(CPU) == "rss":
        meter.tidy(CPU)
        assert meter.measure(lambda: None, CPU).peak_bytes < large - 150_000_000


def test_without_proc_the_peak_since_start_is_given(monkeypatch, tmp_path):
    monkeypatch.setattr(meter, "_CLEAR_REFS", tmp_path / "no" / "clear_refs")
    monkeypatch.setattr(meter, "_STATUS", tmp_path / "no" / "status")
    assert meter.peak_memory_source(CPU) == "rss-since-start"
    assert meter.measure(lambda: None, CPU).peak_bytes > 10_000_000


def test_cuda_reads_the_allocator(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123)
    found = meter.measure(lambda: calls.append("work"), torch.device("cuda"))
    assert found.peak_bytes == 123
    assert calls == ["reset", "wait", "work", "wait"]
