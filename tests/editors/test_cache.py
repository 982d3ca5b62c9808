"""What is kept on disk is made once, also by processes that begin side by side."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from kgt_editor.editors import cache


def _prepare(folder: Path, barrier: object) -> None:
    """What an editor's preparation does; a line is written for each time that the work is done."""
    barrier.wait()  # type: ignore[attr-defined]
    with cache.alone("kind", "key"):
        if cache.load("kind", "key") is None:
            with (folder / "made").open("a") as file:
                file.write("made\n")
            cache.save("kind", "key", {"value": torch.ones(2)})


def test_processes_that_want_the_same_entry_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_prepare, args=(tmp_path, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "made").read_text() == "made\n"


def test_an_error_inside_lets_the_next_one_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RuntimeError, match="diverged"), cache.alone("kind", "key"):
        raise RuntimeError("diverged")
    with cache.alone("kind", "key"):
        assert cache.load("kind", "key") is None


def test_a_folder_that_cannot_be_written_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "file" / "cache"))
    with cache.alone("kind", "key"), cache.alone("kind", "key"):
        assert cache.load("kind", "key") is None
