"""Tables, figures and a page from the runs of ``benchmarks/compare.py``; needs pandas and matplotlib, never torch.

In a notebook::

    from kgt_editor import reporting

    runs, notices = reporting.load(["results/<run>"])
    rows, replaced = reporting.choose(reporting.rows_frame(runs))  # a frame: an editor of a run a line
    rows = reporting.across_runs(runs, rows)  # tests between editors of different runs
    reporting.cases_frame(runs)  # a frame: a case a line
    reporting.make_tables(rows)[0].blocks[0].frame()  # Table 1: editors by (model, measure)
    reporting.figure_4(rows)  # a matplotlib figure
"""

from kgt_editor.reporting.compared import across_runs
from kgt_editor.reporting.figure4 import figure_4
from kgt_editor.reporting.figures import cost_figure, figure_3, latency_figure
from kgt_editor.reporting.frames import cases_frame, choose, load, rows_frame
from kgt_editor.reporting.notices import differences, without_records
from kgt_editor.reporting.paper import reported
from kgt_editor.reporting.report import write_report
from kgt_editor.reporting.runs import Run, read_run
from kgt_editor.reporting.style import look
from kgt_editor.reporting.tables import Block, Cell, Table, make_tables

__all__ = [
    "Block",
    "Cell",
    "Run",
    "Table",
    "across_runs",
    "cases_frame",
    "choose",
    "cost_figure",
    "differences",
    "figure_3",
    "figure_4",
    "latency_figure",
    "load",
    "look",
    "make_tables",
    "read_run",
    "reported",
    "rows_frame",
    "without_records",
    "write_report",
]
