"""From run folders to the files of a report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from kgt_editor.errors import UsageError
from kgt_editor.reporting import compared, figure4, figures, frames, html, inline, notices, render, tables
from kgt_editor.reporting.runs import Run
from kgt_editor.reporting.style import save

FORMATS = ("md", "csv", "tex", "html", "svg", "pdf", "png")
_TABLE_FORMATS = {"md": render.to_markdown, "csv": render.to_csv, "tex": render.to_latex}


@dataclass
class Report:
    """What was written, and what a reader has to know."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Drawn:
    """A figure with its file name, title and caption."""

    stem: str
    title: str
    caption: str
    figure: Figure


def write_report(
    paths: Sequence[str | Path], out: str | Path | None = None, formats: Sequence[str] = FORMATS
) -> Report:
    """Write tables, figures and ``report.html`` about the runs at and below ``paths``.

    Args:
        paths: run folders, or folders of them.
        out: where to; without it ``report`` in the run's folder, or beside the first run where there are several.
        formats: some of :data:`FORMATS`.

    Raises:
        UsageError: no run can be read, a format is unknown, or the folder cannot be written.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise UsageError(f"unknown format '{unknown[0]}'; known: {', '.join(FORMATS)}")
    runs, told = frames.load(paths)
    folder = Path(out) if out else (runs[0].path if len(runs) == 1 else runs[0].path.parent) / "report"
    every_row = frames.rows_frame(runs)
    rows, replaced = frames.choose(every_row)
    rows = compared.across_runs(runs, rows)
    told += [notice for run in runs for notice in run.notices] + notices.failed_edits(every_row)
    told += notices.without_records(runs) + replaced + notices.silence(runs) + notices.dead(rows)
    told += notices.differences(runs) + notices.sizes(rows)
    made = tables.make_tables(rows)
    report = Report(folder, notices=told)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table in made:
            for kind, render_table in _TABLE_FORMATS.items():
                if kind in formats:
                    _write(report, f"{table.stem}.{kind}", render_table(table))
        shown = []
        for drawn in draw(runs, rows) if {"svg", "pdf", "png", "html"} & set(formats) else ():
            told_of_lines, points = inline.name_lines(drawn.figure), inline.numbers(drawn.figure)
            text = html.svg(drawn.figure)
            shown.append(html.Shown(drawn.stem, drawn.title, drawn.caption, text, told_of_lines, points))
            if "svg" in formats:
                _write(report, f"{drawn.stem}.svg", html.on_white(text))
            for kind in sorted({"pdf", "png"} & set(formats)):
                path = folder / f"{drawn.stem}.{kind}"
                save(drawn.figure, path, kind)
                report.files.append(path)
        if "html" in formats:
            title = runs[0].name if len(runs) == 1 else "Model editors compared"
            _write(report, "report.html", html.page(title, runs, told, made, shown))
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot write to {folder}: {reason}; give another folder with --out") from None
    return report


def _write(report: Report, name: str, text: str) -> None:
    """Whole or not at all: a page that is open in a browser is never half a page."""
    path = report.folder / name
    part = path.with_name(f".{name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    report.files.append(path)


def draw(runs: Sequence[Run], rows: pd.DataFrame) -> Iterator[Drawn]:
    """Every figure that the runs have the cells for.

    Args:
        runs: for the latency figure, which needs single edits.
        rows: from :func:`kgt_editor.reporting.frames.choose`.
    """
    for setting in tables.settings(rows):
        own = tables.of_setting(rows, setting)
        size = tables.table_size(own)
        where = f"{setting[0]}, {setting[2]}"
        stem = tables.setting_stem(setting, rows)
        here = own[own["size"] == size]
        figure = figures.figure_3(here)
        if figure is not None:
            yield Drawn(
                f"figure3-{stem}",
                f"Figure 3: does KGT need the user's relations? {where}, {size:,} edits",
                "Score with 95 % interval when the model finds the relation itself, and when the user names it.",
                figure,
            )
        for model in dict.fromkeys(here["model"]):
            yield from _of_model(runs, own[own["model"] == model], size, where, f"{stem}-{tables.model_label(model)}")


def _of_model(runs: Sequence[Run], rows: pd.DataFrame, size: int, where: str, stem: str) -> Iterator[Drawn]:
    on = f"{tables.model_label(rows['model'].iloc[0])}, {where}"
    stem = "".join(c if c.isalnum() or c in "._-" else "_" for c in stem)
    here = rows[rows["size"] == size]
    if "sequential" in where or rows["size"].nunique() > 1:
        yield Drawn(
            f"figure4-{stem}",
            f"Figure 4: score against number of edits, {on}",
            figure4.CAPTION,
            figure4.figure_4(rows),
        )
    cases = frames.cases_frame([run for run in runs if run.name in set(here["run"])])
    if not cases.empty:  # of each editor the run that the tables show
        cases = cases.merge(here[["run", "editor", "size"]], on=["run", "editor", "size"])
    figure = figures.latency_figure(cases, here)
    if figure is not None:
        yield Drawn(
            f"latency-{stem}",
            f"Latency as edits pile up, {on}",
            figures.LATENCY_CAPTION,
            figure,
        )
    figure = figures.cost_figure(here)
    if figure is not None:
        yield Drawn(
            f"efficacy-latency-{stem}",
            f"Efficacy against latency, {on}",
            figures.COST_CAPTION,
            figure,
        )
