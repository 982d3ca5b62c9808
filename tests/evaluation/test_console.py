from __future__ import annotations

import io

import pytest
from rich.console import Console

from kgt_editor.results.schema import METRICS, CellFailure, MissingCell
from kgt_editor.runs.console import Display, footnotes, listing, results_table


def row(editor, mean, p50=0.02):
    return {
        "editor": editor,
        "model": "testbed-gpt2",
        "dataset": "world",
        "mode": "sequential",
        "size": 200,
        "seeds": [0, 1],
        "metrics": {name: {"mean": mean, "low": mean - 0.01, "high": mean + 0.02} for name in METRICS}
        | {"neighbourhood_score": None},
        "edit_seconds": {"p50": p50, "p95": 1.5, "mean": 0.1},
        "peak_memory_bytes": 300 * 2**20,
        "failed_edits": 3,
        "forward_seconds": 0.002,
    }


def printed(renderable, width):
    stream = io.StringIO()
    Console(file=stream, width=width).print(renderable)
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_number_is_cut_off_at_any_width(width):
    rows = [row("none", 0.012, 1e-6), row("kgt", 0.987), row("rome", 0.5)]
    text = printed(results_table(rows, width), width)
    for part in ("none", "kgt", "rome", "98.7", "98-101", "20.0 ms", "1.50 s", "10.0", "300", "testbed-gpt2", "200"):
        assert part in text, part
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_many_editors_stand_in_several_tables_without_a_wrapped_cell():
    names = [f"editor-{number}" for number in range(14)]
    text = printed(results_table([row(name, 0.987) for name in names], 80), 80)
    assert max(map(len, text.splitlines())) <= 80
    heads = [line.split() for line in text.splitlines() if line.strip().startswith("editor ")]
    assert len(heads) > 2
    assert [name for head in heads for name in head[1:]] == names
    for line in (line for line in text.splitlines() if line.strip().startswith("efficacy score %")):
        assert "98.7 98-101" in line
    assert text.count("testbed-gpt2 on world") == 1


def test_below_the_table_stands_what_is_not_in_it():
    rows = [row("kgt", 0.9)]
    missing = [MissingCell("rome", 0, [50, 21_919]), MissingCell("rome", 1, [50])]
    told = footnotes(rows, missing)
    assert told[0].startswith("PARTIAL: ")
    assert "rome seed 0 (50, 21,919 edits); rome seed 1 (50 edits)." in told[0]
    assert not any("PARTIAL" in note for note in footnotes(rows))
    assert any("testbed models" in note for note in footnotes(rows))
    assert not any("testbed models" in note for note in footnotes([rows[0] | {"model": "smollm2-135m"}]))


def test_rows_of_several_sizes_say_which():
    rows = [row("kgt", 0.9) | {"size": size} for size in (50, 21_919)]
    for width in (60, 200):
        text = printed(results_table(rows, width), width)
        assert "21,919" in text.split("edits", 1)[1]
        assert "50, 21,919 sequential" in " ".join(text.split())


@pytest.mark.parametrize("width", [60, 100, 160])
def test_columns_that_few_runs_have_are_there_where_a_row_has_them(width):
    told = {"held": 150, "kept but not followed": 38, "restated": 12, "dropped": 0}
    bare = row("rome", 0.5)
    few = ("kept", "exact", "contained")
    bare["metrics"] = {n: None if any(one in n for one in few) else value for n, value in bare["metrics"].items()}
    text = " ".join(printed(results_table([bare, row("kgt", 0.9) | {"edit_outcomes": told}], width), width).split())
    for part in ("150/38/12/0", "held/kept/", "subject", "kept %"):
        assert part in text, part
    told = " ".join(printed(results_table([bare | {"silence": {"asked": 40, "silent": 29}}], width), width).split())
    assert "to 72% of the prompts the unedited model says nothing" in told
    without = printed(results_table([bare | {"silence": {"asked": 40, "silent": 0}}], width), width)
    for part in ("kept", "held", "silence"):
        assert part not in without


def test_a_dead_model_is_named_and_has_no_shares():
    text = printed(results_table([row("mend", 0.0) | {"dead": "NaN"}, row("kgt", 0.9)], 200), 200)
    line = next(line for line in text.splitlines() if "mend" in line)
    assert "dead" in line
    assert "0.0" not in line.split("20.0 ms")[0]


def test_rows_of_unlike_numbers_of_seeds_are_not_called_one_number():
    text = printed(results_table([row("kgt", 0.9), row("rome", 0.9) | {"seeds": [0]}], 200), 200)
    assert "1/2 seed(s)" in " ".join(text.split())


def test_the_no_edit_row_has_no_latency_and_a_missing_metric_no_number():
    text = printed(results_table([row("none", 0.5, 1e-6)], 120), 120)
    assert "0.0 ms" not in text
    assert " - " in text


def test_off_a_terminal_there_is_one_plain_line_a_cell():
    stream = io.StringIO()
    display = Display(Console(file=stream, width=30))
    with display.stage("kgt", 0) as advance:
        advance("editing", 1, 2)
    display.finished({"editor": "kgt", "seed": 0, "cases": 4, "failed_edits": 0, "first_failure": None})
    display.finished({"editor": "ft", "seed": 1, "cases": 4, "failed_edits": 2, "first_failure": "too long"})
    display.failed(CellFailure("mend", None, "a reason that is a good deal longer than the console is wide"))
    assert stream.getvalue().splitlines() == [
        "kgt, seed 0: 4 edits",
        "ft, seed 1: 4 edits, 2 edits failed, the first because: too long",
        "mend, preparation: failed: a reason that is a good deal longer than the console is wide",
    ]


def test_on_a_terminal_the_stage_is_shown():
    stream = io.StringIO()
    with Display(Console(file=stream, width=100, force_terminal=True)).stage("kgt", 1) as advance:
        advance("editing", 1, 2)
    assert "kgt, seed 1: editing" in stream.getvalue()


def test_a_listing_gives_one_line_each():
    found = listing("Editors", {"rome": "rank-one " * 20, "kgt": "graph"}).plain.splitlines()
    assert [line.split()[0] for line in found] == ["Editors", "rome", "kgt"]
    assert found[1].index("rank-one") == found[2].index("graph")
