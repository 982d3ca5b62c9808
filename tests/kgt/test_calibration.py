"""Choosing settings: what is counted, nothing measured twice, and a command that goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kgt_editor.cli import calibrate
from kgt_editor.data.record import Record
from kgt_editor.editors.settings import find_hparams
from kgt_editor.kgt.calibration import HOPS, LEAST_NAMED, Calibration, examples
from kgt_editor.kgt.hparams import KGTHyperParams

LM = tuple[Any, Any]


def test_other_questions_come_from_records_of_other_relations(tiny_records: tuple[Record, ...]) -> None:
    found = examples(tiny_records, 6, seed=1)
    assert found == examples(tiny_records, 6, seed=1)
    assert found != examples(tiny_records, 6, seed=2)
    for one in found:
        assert one.others
        for other in one.others:
            assert one.subject in other
            assert other != one.query
            assert other not in one.paraphrases
        triple, feedback = one.fact
        assert (triple.head, triple.tail, feedback.query) == (one.subject, one.new, one.query)


def test_what_is_chosen_is_the_best_of_what_was_measured(tiny_gpt2: LM, tiny_records: tuple[Record, ...]) -> None:
    drawn, steps = examples(tiny_records, 3, seed=0), []
    measured: dict[str, Any] = {}
    calibration = Calibration(
        *tiny_gpt2, drawn, KGTHyperParams(K=3), drawn, measured, lambda: steps.append(list(measured))
    )
    chosen = calibration.choose()
    rows = [row for name, found in measured.items() if name.startswith("reading") for row in found]
    assert {row["reading"] for row in rows} == {"repeat", "stored", "paper"}  # no chat template
    assert all(0 <= value <= 1 for row in rows for key, value in row.items() if "score" in key or "accuracy" in key)
    best = max(rows, key=lambda row: row["value"])
    assert (chosen.reading, chosen.contrast) == (best["reading"], best["contrast"])
    curve = measured[f"bearing {chosen.reading} {chosen.contrast}"]
    found = chosen.guard_midpoint, chosen.guard_slope, chosen.retrieval_min
    assert found == (curve["midpoint"], curve["slope"], curve["least"])
    assert chosen.relation_source == ("rank" if measured["naming"]["top 1"] >= LEAST_NAMED else "query")
    assert (chosen.K, chosen.hops) == (3, HOPS)
    assert len(steps) == len(measured) == 5

    passes: list[int] = []
    tiny_gpt2[0].register_forward_hook(lambda *_: passes.append(1))
    again = Calibration(*tiny_gpt2, drawn, KGTHyperParams(K=3), drawn, dict(measured))
    assert again.choose() == chosen
    assert not passes


@pytest.fixture
def saved(tiny_gpt2: LM, tmp_path: Path) -> Path:
    model, tok = tiny_gpt2
    folder = tmp_path / "tiny-model"
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def test_the_command_writes_a_yaml_that_the_editor_takes_and_goes_on(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hparams" / "KGT" / "tiny-model.yaml"
    command = ["--model", str(saved), "--size", "2", "--out", str(out), "--set", "max_candidates=9"]
    assert calibrate.main(command) == 0
    hparams, origin = find_hparams(KGTHyperParams, "kgt", str(saved), tmp_path / "hparams")
    assert origin.path == out
    assert hparams.max_candidates == 9
    assert out.read_text(encoding="utf-8").startswith("# KGT for")
    figures = out.with_name("tiny-model.calibration.json")
    content = json.loads(figures.read_text(encoding="utf-8"))
    del content["measured"]["naming"]
    figures.write_text(json.dumps(content), encoding="utf-8")
    before = out.read_text(encoding="utf-8")
    capsys.readouterr()
    assert calibrate.main(command) == 0
    assert "goes on after: reading repeat" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == before
    figures.write_text("{", encoding="utf-8")
    assert calibrate.main([*command[:-2], "--size", "1"]) == 0
    assert "measured anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "testbed-gpt2", "--records", "nothing"], "unknown data set 'nothing'"),
        (["--model", "testbed-gpt2", "--records", "counterfact-hard"], "--data FILE"),
        (["--model", "testbed-gpt2", "--records", "lamp"], "no validation records"),
        (["--model", "testbed-gpt2", "--set", "K"], "KEY=VALUE"),
        (["--model", "testbed-gpt2", "--set", "raeding=chat"], "did you mean reading"),
        (["--size", "3"], "--model"),
    ],
)
def test_a_bad_request_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate.main(arguments) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_a_model_that_cannot_be_had_leaves_no_file_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong, out = tmp_path / "model.txt", tmp_path / "KGT" / "model.yaml"
    wrong.write_text("once upon a time")
    assert calibrate.main(["--model", str(wrong), "--out", str(out)]) == 2
    assert "is not a GGUF file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [wrong]
