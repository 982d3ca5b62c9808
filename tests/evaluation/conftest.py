from __future__ import annotations

import importlib
import signal
from pathlib import Path

import pytest
import torch

from kgt_editor.cli.compare import main
from kgt_editor.data.base import DataSet, KnownFact
from kgt_editor.editors import base
from kgt_editor.editors.names import EDITORS

ROOT = Path(__file__).resolve().parents[2]
PERSON = "Zelda Quist"


@pytest.fixture
def fake_editors(monkeypatch):
    """The module of fake editors, registered as ``fake``, ``memory`` and ``stubborn``."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(EDITORS, "_registered", {})
    base.register("fake", "fake_editors:WeightEditor")
    base.register("memory", "fake_editors:MemoryEditor")
    base.register("stubborn", "fake_editors:StubbornEditor")
    module = importlib.import_module("fake_editors")
    module.WeightEditor.log.clear()
    return module


@pytest.fixture
def one_thread():
    """This process on one thread: with another number of them, sums round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_data(tiny_records):
    """Twelve reported records, two to train and two to warm up on, three known facts."""
    known = tuple(KnownFact(f"{PERSON} {verb}", "Tarsil") for verb in ("lives in", "works in", "was seen in"))
    return DataSet("tiny", tiny_records[:12], tiny_records[12:14], tiny_records[14:], known, "r1")


@pytest.fixture
def saved_model(tiny_gpt2, tmp_path):
    """A folder with the tiny GPT-2 and its tokenizer."""
    model, tok = tiny_gpt2
    folder = tmp_path / "tiny-model"
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


@pytest.fixture
def compare(fake_editors, saved_model, counterfact_file, tmp_path, capsys):
    """Runs the command on the tiny model and file; options given later win. Returns exit code, stdout, stderr."""
    handlers = [(kind, signal.getsignal(kind)) for kind in (signal.SIGINT, signal.SIGTERM)]

    def start(*arguments, out=tmp_path / "results", report=False, shipped=ROOT / "hparams"):
        base = ["--editors", "fake", "--model", str(saved_model), "--dataset", "counterfact", "--device", "cpu"]
        base += ["--data", str(counterfact_file), "--out", str(out)]
        base += [] if {"--size", "--sizes"} & set(arguments) else ["--size", "4"]
        base += [] if report else ["--no-report"]
        code = main([*base, *arguments], shipped)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield start
    for kind, handler in handlers:
        signal.signal(kind, handler)
