"""Figures against the rows that tables show."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.text import Text

from kgt_editor import reporting
from kgt_editor.reporting import report, tables
from kgt_editor.reporting.names import NO_EDIT, editor_label

RESULTS = Path(__file__).resolve().parents[2] / "results"
FOLDERS = sorted({path.parent.parent for path in RESULTS.glob("*/*/manifest.json")})
MEASURES = {
    "latency": ("edit_p50",),
    "efficacy-latency": ("edit_p50",),
    "figure4": ("efficacy_score", "paraphrase_score"),
}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_of_a_committed_run_missing_is_said_only_where_there_is_no_number(folder: Path) -> None:
    runs, _ = reporting.load([folder])
    rows, _ = reporting.choose(reporting.rows_frame(runs))
    checked = 0
    for setting in tables.settings(rows):
        own = tables.of_setting(rows, setting)
        size = tables.table_size(own)
        for model in dict.fromkeys(own["model"]):
            here = own[own["model"] == model]
            if size not in set(here["size"]):
                continue
            for drawn in report.draw(runs, here):
                kind = drawn.stem.rpartition(f"-{setting[0]}-")[0]
                if kind not in MEASURES:
                    continue
                shown = here if kind == "figure4" else here[here["size"] == size]
                told = " ".join(text.get_text() for text in drawn.figure.findobj(Text))
                below = told.rpartition("missing: ")[2] if "missing: " in told else ""
                for editor, lines in shown.groupby("editor"):
                    label = editor_label(str(editor))
                    number = any(name in lines and lines[name].notna().any() for name in MEASURES[kind])
                    if number or editor == NO_EDIT:
                        assert f"{label} (missing)" not in told
                        assert label not in below.split(", ")
                    else:
                        assert label in told
                    checked += 1
    assert checked or all(run.size == 0 for run in runs)


def test_a_run_of_figures_alone_stands_beside_one_that_has_its_summary_only(builder, tmp_path) -> None:
    with_records = builder.write_run(tmp_path / "records", editors=("none", "rome"))
    without = builder.write_run(tmp_path / "summary", editors=("none", "kgt"))
    runs, _ = reporting.load([with_records, without])
    rows, _ = reporting.choose(reporting.rows_frame(runs))
    rows.loc[rows["editor"] == "kgt", ["first_tenth_p50", "last_tenth_p50"]] = (0.1, 0.2)
    cases = reporting.cases_frame(runs[:1])
    figure = reporting.latency_figure(cases, rows)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["KGT"].get_ydata()) == [0.1, 0.2]
    assert lines["KGT"].get_linestyle() == ":"
    assert lines["ROME"].get_linestyle() == "-"
    assert len(lines["ROME"].get_ydata()) > 2
    assert not any("missing" in text.get_text() for text in figure.findobj(Text))
