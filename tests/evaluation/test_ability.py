"""Abilities: which option counts as the answer, what stays the same under edits, perplexity."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from kgt_editor.data.ability import Question, Task
from kgt_editor.editors.base import create_editor
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.ability import answer, fitting, perplexity
from kgt_editor.evaluation.scorer import scorer
from kgt_editor.lm.target import TargetScore

FOLLOWS = [Question(f"Is it {word}? Answer:", ("no", "yes"), 1) for word in ("warm", "cold", "wet")]
TASK = Task("toy", (), tuple(FOLLOWS))


def says(*log_probs):
    """A model that finds the options of the questions this likely, in order."""
    return lambda prompts, targets: [TargetScore(value, 2, False) for value in log_probs[: len(prompts)]]


def test_the_likeliest_option_is_the_answer_and_a_tie_is_none():
    found = answer(says(-2.0, -1.0, -1.0, -1.0, math.nan, -3.0), TASK)
    assert found.chosen == (1, None, None)
    assert (found.accuracy, found.undecided) == (pytest.approx(1 / 3), 2)
    before = answer(says(-2.0, -1.0, -2.0, -1.0, -1.0, -2.0), TASK)
    assert before.chosen == (1, 1, 0)
    assert found.as_dict(before) == {
        "asked": 3,
        "accuracy": 0.3333,
        "undecided": 2,
        "scores": found.digest,
        "kept": 0.3333,
    }


def test_the_hash_tells_the_last_bit():
    one, other = (answer(says(*[-1.0] * 5, value), TASK) for value in (-1.0, math.nextafter(-1.0, 0)))
    assert one.digest != other.digest
    assert one.digest == answer(says(*[-1.0] * 6), TASK).digest


def test_options_are_scored_behind_their_question(tiny_gpt2):
    model, tok = tiny_gpt2
    found = answer(scorer(model, tok), replace(TASK, examples=(FOLLOWS[0],), questions=(FOLLOWS[1],)))
    text = "Is it warm? Answer: yes\n\nIs it cold? Answer:"
    with torch.no_grad():
        for option, log_prob in zip(("no", "yes"), found.log_probs, strict=True):
            ids = tok(f"{text} {option}", return_tensors="pt").input_ids
            start = len(tok(text).input_ids)
            logs = model(ids).logits[0].log_softmax(-1)
            wanted = sum(logs[place - 1, ids[0, place]] for place in range(start, ids.shape[1]))
            assert log_prob == pytest.approx(float(wanted), abs=1e-4)


def test_questions_that_do_not_fit_are_left_out(tiny_gpt2):
    long = Question("Ada Brun " * 300, ("no", "yes"), 0)
    assert fitting(*tiny_gpt2, Task("toy", (), (FOLLOWS[0], long))).questions == (FOLLOWS[0],)


def test_perplexity_is_that_of_the_second_halves():
    assert perplexity(says(-4.0, -2.0), ["one two three four five six seven eight"] * 2) == pytest.approx(math.exp(1.5))
    with pytest.raises(UsageError, match="no passage of the text has 8 words"):
        perplexity(says(), ["too short"])


def test_a_graph_of_facts_leaves_every_number_of_other_questions_as_it_was(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2
    editor = create_editor("kgt", "testbed-gpt2", overrides={"graph": "none"})
    before = answer(scorer(model, tok), TASK)
    edited, _ = editor.apply(model, tok, [record.request() for record in tiny_records[:4]])
    assert answer(scorer(edited, tok), TASK).digest == before.digest


def test_the_script_asks_before_and_after_and_goes_on(tmp_path, load_script, monkeypatch, capsys):
    script = load_script("abilities")
    task = tmp_path / "sst2.jsonl"
    rows = [{"sentence": f"a film like number {number}", "label": number % 2} for number in range(5)]
    task.write_text("\n".join(map(json.dumps, rows)))
    text = tmp_path / "text.txt"
    text.write_text("It rained in the morning and they met again in spring.\n")
    words = [
        "abilities.py",
        "--size",
        "2",
        "--task",
        f"sst2={task}",
        "--limit",
        "3",
        "--shots",
        "1",
        "--text",
        str(text),
    ]
    words += ["--out", str(tmp_path / "out"), "--editors"]
    monkeypatch.setattr("sys.argv", [*words, "kgt"])
    assert script.main() == 0
    path = tmp_path / "out" / "abilities-testbed-gpt2-world-2.json"
    rows = json.loads(path.read_text())["rows"]
    assert rows["kgt"]["tasks"]["sst2"] == {**rows["none"]["tasks"]["sst2"], "kept": 1.0}
    assert rows["kgt"]["perplexity"] == rows["none"]["perplexity"] > 1
    monkeypatch.setattr("sys.argv", [*words, "kgt,memory"])
    monkeypatch.setattr(
        script, "edited", lambda name, *_: pytest.fail("kgt again") if name == "kgt" else (_[0], ["no"])
    )
    assert script.main() == 0
    assert json.loads(path.read_text())["rows"]["memory"]["failed_edits"] == 1
    assert "sst2" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["abilities.py"])
    assert script.main() == 2
    assert "give --task NAME=FILE" in capsys.readouterr().err
