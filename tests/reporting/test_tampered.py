"""Run folders in which something has been changed: a report is made, or one line says what is wrong."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from tampering import tamper

from kgt_editor.cli import report
from kgt_editor.results import compact, shape

FOLDERS = 100


@pytest.mark.parametrize("figures_only", [False, True])
def test_no_tampered_folder_ends_in_a_traceback(builder, tmp_path, capsys, figures_only):
    whole = builder.write_run(tmp_path / "whole", editors=("none", "kgt", "rome"), sizes=(3, 6), size=6, kept=True)
    if figures_only:
        compact.write(
            whole / compact.FILE, [json.loads(line) for line in (whole / "records.jsonl").read_text().splitlines()]
        )
        (whole / "records.jsonl").unlink()
    rng, refused = random.Random(figures_only), 0
    for _ in range(FOLDERS):
        folder = tmp_path / "run"
        shutil.copytree(whole, folder)
        tamper(rng.choice(sorted(folder.iterdir())), rng)
        code = report.main([str(folder), "--out", str(tmp_path / "out"), "--formats", "md"])
        told = capsys.readouterr().err
        assert code in (0, 2), told
        refused += code == 2
        assert code == 0 or len(told.splitlines()) == 1
        shutil.rmtree(folder)
    assert 5 < refused < FOLDERS


@pytest.mark.parametrize(
    ("value", "form", "told"),
    [
        ({"a": 1}, {"a": shape.whole}, None),
        ({}, {"a?": shape.whole}, None),
        ({}, {"a": shape.whole}, "'a' is missing"),
        ({"a": True}, {"a": shape.whole}, "a has to be a whole"),
        ({"a": [1, "x"]}, {"a": [shape.number]}, "a[1] has to be a number"),
        ({"a": {"b": {"c": None}}}, {"a": shape.Each({"c": shape.text})}, "a.b.c has to be a text"),
        ({"a": None}, {"a": (None, shape.text)}, None),
        ({"a": "\ud800"}, {"a": (None, shape.text)}, "a has to be a text"),
        ([], {"a": shape.text}, "it has to be an object"),
    ],
)
def test_what_has_another_form_is_named(value, form, told):
    assert shape.mismatch(value, form) == told
