"""The command line of ``kgt data``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from kgt_editor.commands import Parser, positive, run
from kgt_editor.data.bar import download_bar
from kgt_editor.data.base import seeded_key
from kgt_editor.data.check import KINDS, SHOWN, FileReport, check_file
from kgt_editor.data.download import COUNTERFACT, fetch
from kgt_editor.data.extension import build_records, distinct, grammar_faults, read_facts, write_records
from kgt_editor.errors import KgtError, UsageError

PROGRAM = "kgt data"


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = Parser(prog=program, description="Data sets: check a file, fetch CounterFact, build its extension.")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("check", help="what a file of edits holds; exit code 1 where something is wrong")
    layouts = "ROME's, EasyEdit's, CounterFact-Hard's or zsRE's"
    command.add_argument("file", type=Path, metavar="FILE", help=f"{layouts} JSON, .jsonl or .gz")

    command = commands.add_parser("download", help="fetch CounterFact into the cache")
    command.add_argument("--url", help=f"a mirror (default: ${COUNTERFACT.url_variable}, or {COUNTERFACT.url})")

    command = commands.add_parser("build-extension", help="make CounterFactExtension from PARAREL's facts")
    command.add_argument(
        "--facts", type=Path, required=True, metavar="FILE", help="Dai et al.'s query_pairs.json, or JSON facts"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="the data set as JSON")
    command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    command.add_argument("--distinct", action="store_true", help="leave out facts that occur a second time")
    command.add_argument("--sample", type=positive, metavar="N", help="print N random records")
    return parser


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run a command and return its exit code: 0, 1 (failure), 2 (usage) or 130 (interrupted)."""
    return run(program, arguments, lambda words: _command(words, program))


def _command(words: list[str], program: str) -> int:
    options = build_parser(program).parse_args(words)
    code: int = _COMMANDS[options.command](options)
    return code


def _check(options: argparse.Namespace) -> int:
    report = check_file(options.file)
    _print_counts(report)
    if report.ok:
        print("no problems")
        return 0
    total = sum(report.problems.values())
    for kind, meaning in KINDS.items():
        if report.problems[kind]:
            print(f"{report.problems[kind]:>10,}  {kind}: {meaning}")
    print(f"the first {min(total, SHOWN)} of {total:,} problem{'s' if total > 1 else ''}:", file=sys.stderr)
    for problem in report.offenders:
        print(f"{problem.kind}: {problem.message}", file=sys.stderr)
    return 1


def _print_counts(report: FileReport) -> None:
    layouts = ", ".join(f"{count:,} in the layout '{name}'" for name, count in report.layouts.items())
    print(f"{report.path}: {layouts or 'no readable records'}")
    for name, count in report.counts.items():
        print(f"{count:>10,}  {name}")
    for name, count in sorted(report.absent.items()):
        print(f"{count:>10,}  records without '{name}'")
    for note, count in report.notes.items():
        print(f"{count:>10,}  {note}")


def _download(options: argparse.Namespace) -> int:
    with download_bar(Console(stderr=True)) as progress:
        print(fetch(COUNTERFACT, options.url, progress))
    return 0


def _build_extension(options: argparse.Namespace) -> int:
    if options.out is None and options.sample is None:
        raise UsageError("build-extension: give --out FILE, --sample N, or both")
    published = read_facts(options.facts)
    facts = distinct(published)
    repeats = len(published) - len(facts)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing records", total=None)
        records = build_records(
            facts if options.distinct else published,
            options.seed,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    faults = [f"record {record['case_id']}: {fault}" for record in records for fault in grammar_faults(record)]
    if faults:
        raise KgtError(f"{options.facts}: {len(faults):,} prompts do not read well, the first: {faults[0]}")
    for record in _sampled(records, options.sample or 0, options.seed):
        _print_record(record)
    if options.out:
        write_records(records, options.out)
        which = "left out" if options.distinct else "kept"
        print(f"{options.out}: {len(records):,} records; {repeats:,} of the facts are repeats and were {which}")
    return 0


def _sampled(records: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: seeded_key(seed, str(record["case_id"])))[:count]


def _print_record(record: dict[str, Any]) -> None:
    rewrite = record["requested_rewrite"]
    true, new = rewrite["target_true"]["str"], rewrite["target_new"]["str"]
    print(f"{record['case_id']}  {rewrite['relation_id']}  {rewrite['subject']}: {true} -> {new}")
    prompts = [rewrite["prompt"].replace("{}", rewrite["subject"]), *record["paraphrase_prompts"]]
    for prompt in (*prompts, *record["generation_prompts"]):
        print(f"    {prompt} [{new}]")
    for prompt in record["neighborhood_prompts"]:
        print(f"    ~ {prompt} [{true}]")


_COMMANDS = {"check": _check, "download": _download, "build-extension": _build_extension}
