"""What the command line refuses, lists, and keeps when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs_read import ROOT, read, the_run

from kgt_editor.cli.compare import main

BAD = [
    (["--editors", "rom"], ["unknown editor 'rom'", "kgt", "rome", "mend"]),
    (["--editors", ","], ["--editors names no editor"]),
    (["--model", "testbed-bert"], ["unknown model 'testbed-bert'", "shipped ones"]),
    (["--dataset", "wrold"], ["unknown data set 'wrold'", "world", "counterfact"]),
    (["--data", "gone.json"], ["gone.json", "no such file"]),
    (["--data", "broken.json"], ["broken.json, line 2", "not valid JSON"]),
    (["--data", "subject.json"], ["subject.json, line 1", "'Ada' is not in"]),
    (["--size", "5000"], ["size 5000 is not between 1 and", "reported records of 'counterfact'"]),
    (["--size", "0"], ["--size", "whole number above zero, not '0'"]),
    (["--sizes", "2,,4"], ["--sizes", "whole number above zero, not ''"]),
    (["--sizes", "2,5000"], ["size 5000 is not between 1 and"]),
    (["--sizes", "2,4", "--mode", "single"], ["--mode single undoes every edit", "give one --size"]),
    (["--overwrite", "maybe"], ["--overwrite", "'never', 'only-missing', 'always'"]),
    (["--checkpoint-every", "0"], ["--checkpoint-every", "not '0'"]),
    (["--seeds", "many"], ["--seeds", "not 'many'"]),
    (["--mode", "batch"], ["--mode", "'sequential', 'single'"]),
    (["--frobnicate"], ["unrecognized arguments: --frobnicate"]),
    (["--set", "fake.delya=1"], ["unknown key 'delya'", "delay"]),
    (["--set", "fake.delay=soon"], ["'delay' = 'soon'"]),
    (["--set", "delay=1"], ["--set delay=1: must have the form EDITOR.KEY=VALUE"]),
    (["--set", "mend.lr=1"], ["'mend' is not among the editors of this run: none, fake"]),
    (["--graph", "none"], ["'kgt' is not among the editors"]),
    (["--editors", "kgt", "--graph", "gone.tsv"], ["--graph gone.tsv: no such file"]),
    (["--editors", "rome", "--hparams", "yamls"], ["ROME", "unknown key 'layerz'"]),
    (["--editors", "rome", "--hparams", "broken"], ["line 2", "not valid YAML"]),
    (["--editors", "rome", "--hparams", "gone"], ["--hparams gone: no such folder"]),
    (["--editors", "kgt:papre"], ["editor 'kgt:papre' has no hyperparameters", "did you mean kgt:paper?"]),
    (["--editors", "kgt:zzz"], ["editor 'kgt:zzz' has no hyperparameters", "kgt:paper, kgt:user; or write"]),
    (["--model", "subject.json"], ["subject.json is not a GGUF file"]),
    (["--out", "subject.json/results"], ["cannot write to the output folder subject.json/results"]),
    (["--device", "cuda"], ["device 'cuda': this machine has 0 CUDA devices; use cpu"]),
    (["--device", "abacus"], ["unknown device 'abacus'"]),
    (["--set", "fake.unsupported=true"], ["editor 'fake' cannot edit", "it is a test; leave it out"]),
]


@pytest.mark.parametrize(("arguments", "parts"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_a_wrong_request_is_one_clear_line_and_nothing_is_run(
    compare, fake_editors, saved_model, tmp_path, monkeypatch, arguments, parts
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    broken = {"case_id": 0, "prompt": "Who is it?", "subject": "Ada", "target_new": "a", "ground_truth": "b"}
    (tmp_path / "broken.json").write_text(json.dumps(broken | {"prompt": "Ada is"}) + '\n{"case_id": \n')
    (tmp_path / "subject.json").write_text(json.dumps(broken))
    for folder, text in (("yamls", "layerz: [1]\n"), ("broken", "layers: [1\n")):
        (tmp_path / folder / "ROME").mkdir(parents=True)
        (tmp_path / folder / "ROME" / f"{saved_model.name}.yaml").write_text(text)
    code, out, err = compare(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("compare.py: ")
    assert len(err.splitlines()) == 1
    assert [part for part in parts if part not in err] == []
    assert fake_editors.WeightEditor.log == []
    assert not list(tmp_path.glob("results/*"))


def test_debug_keeps_the_traceback(compare):
    from kgt_editor.errors import UsageError

    with pytest.raises(UsageError):
        compare("--editors", "rom", "--debug")


def test_list_names_editors_models_and_data_sets(capsys, fake_editors):
    assert main(["--list"], ROOT / "hparams") == 0
    out = capsys.readouterr().out
    for name in ("none", "kgt", "rome", "mend", "fake", "memory", "world", "counterfact", "any Hugging Face"):
        assert name in out
    assert "licence: MIT; https://rome.baulab.info/" in out


START = """
import sys
from pathlib import Path
from kgt_editor.editors.base import register
from kgt_editor.cli.compare import main
register("fake", "fake_editors:WeightEditor")
sys.exit(main(sys.argv[1:], Path("hparams")))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_an_interrupt_keeps_what_is_measured(saved_model, counterfact_file, tmp_path, sent, mode):
    out = tmp_path / "results"
    arguments = ["--editors", "fake", "--model", str(saved_model), "--dataset", "counterfact", "--size", "30"]
    arguments += ["--data", str(counterfact_file), "--mode", mode, "--out", str(out), "--set", "fake.delay=0.2"]
    journal = tmp_path / "edits.txt"
    arguments += ["--set", f"fake.journal={journal}", "--no-report"]
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"},
        # A shell that starts pytest in the background has children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 120
        # The no-edit cell is complete then, and the slow one has made two edits to warm up and some more.
        while not journal.exists() or len(journal.read_text(encoding="utf-8").splitlines()) < 7:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    (folder,) = out.iterdir()
    assert process.returncode == 130, stderr
    last = stderr.splitlines()[-1]
    assert last == f"compare.py: interrupted, 1 cells not complete; the same command goes on with them: {folder}"
    assert "Traceback" not in stdout + stderr
    summary = read(folder, "summary.json")
    assert [row["editor"] for row in summary["rows"]] == ["none"]
    assert summary["missing"] == [{"editor": "fake", "seed": 0, "sizes": [30]}]
    assert not summary["complete"]
    records = read(folder, "records.jsonl")
    assert [r["editor"] for r in records] == ["none"] * 30
    kept = read(folder / "cells" / "fake-0", "edits.jsonl")
    assert 0 < len(kept) < 30
    assert all(r["seconds"] >= 0.2 for r in kept)
    assert read(folder, "manifest.json")["status"] == "interrupted"
    assert [c["editor"] for c in read(folder, "cells.jsonl")] == ["none"]


def test_the_script_runs_from_any_folder(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "compare.py"), "--editors", "nobody"]
    found = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("compare.py: unknown editor 'nobody'")


def test_known_only_limits_the_records_and_reports_the_share(compare, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from kgt_editor.runs import model_info as look

    def knows_even_people(model, tok, batch_size=None):
        return lambda prompts, targets: [SimpleNamespace(greedy=int(p.split()[1]) % 2 == 0) for p in prompts]

    monkeypatch.setattr(look, "scorer", knows_even_people)
    code, _, err = compare("--known-only")
    assert code == 0, err
    records = [r["case_id"] for r in read(the_run(tmp_path), "records.jsonl") if r["editor"] == "none"]
    assert len(records) == 4
    assert all(case % 2 == 0 for case in records)
    share = read(the_run(tmp_path), "summary.json")["known_only"]
    assert 0 < share["known"] < share["asked"]
    assert read(the_run(tmp_path), "manifest.json")["known_only"] == share
    assert f"the model knows {share['known']} of the {share['asked']} records asked" in err
    assert compare("--known-only", "--size", "40", out=tmp_path / "other")[0] == 2


def test_a_data_set_told_in_steps_is_not_compared(fake_editors, saved_model, tmp_path, capsys):
    arguments = ["--editors", "fake", "--model", str(saved_model), "--dataset", "personal-conflicts", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / "results")], ROOT / "hparams") == 2
    err = capsys.readouterr().err
    assert "data set 'personal-conflicts' is told in steps, not in edits: run benchmarks/measure/conflicts.py" in err
