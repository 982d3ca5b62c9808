"""The command line of ``benchmarks/report.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kgt_editor.commands import Parser, run

PROGRAM = "report.py"


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All options with their defaults."""
    from kgt_editor.reporting.report import FORMATS

    parser = Parser(prog=program, description="Tables, figures and a page from the runs of compare.py.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of them")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: report/ in the run, or beside several")
    parser.add_argument("--formats", default=",".join(FORMATS), help="default: %(default)s")
    return parser


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Write a report and return the exit code: 0, 1 (failure), 2 (usage) or 130 (interrupted)."""
    return run(program, arguments, lambda words: _report(words, program))


def _report(arguments: list[str], program: str) -> int:
    from kgt_editor.reporting.report import write_report

    options = build_parser(program).parse_args(arguments)
    formats = [name.strip() for name in options.formats.split(",") if name.strip()]
    report = write_report(options.runs, options.out, formats)
    for notice in report.notices:
        print(f"{program}: {notice}", file=sys.stderr)
    print(f"Report: {report.folder} ({len(report.files)} files)")
    return 0
