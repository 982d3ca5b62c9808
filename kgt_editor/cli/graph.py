"""The command line ``kgt graph``."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from kgt_editor.commands import Parser, positive, printable, run
from kgt_editor.data import mquake
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.folders import write_private
from kgt_editor.graph.build import Row, build
from kgt_editor.graph.conceptnet import conceptnet_rows, read_lines, tsv_rows
from kgt_editor.graph.database import BASE_GRAPH, is_database
from kgt_editor.graph.entry import Edit
from kgt_editor.graph.export import export_json, export_ntriples
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.stored import StoredGraph

PROGRAM = "kgt graph"


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = Parser(prog=program, description="Base graphs, and what users told their personal graphs.")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="make the file of a base graph")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--conceptnet", type=Path, metavar="FILE", help="ConceptNet 5 assertions, .csv or .csv.gz")
    source.add_argument("--tsv", type=Path, metavar="FILE", help="head<TAB>relation<TAB>tail[<TAB>weight], or .gz")
    source.add_argument("--mquake", type=Path, metavar="FILE", help="the unedited facts of MQuAKE's cases")
    command.add_argument("--lang", metavar="CODE", help="only terms of this language, as in en (--conceptnet)")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="a base graph there is replaced")
    command.add_argument("--force", action="store_true", help="replace --out whatever it is, but for the source itself")

    command = commands.add_parser("info", help="what a base graph holds")
    command.add_argument("graph", type=Path, metavar="GRAPH")

    command = commands.add_parser("show", help="the heaviest triples that start at an entity")
    command.add_argument("graph", type=Path, metavar="GRAPH")
    command.add_argument("entity", metavar="ENTITY")
    command.add_argument("--limit", type=positive, default=20, metavar="N", help="default: %(default)s")

    command = commands.add_parser("users", help="the users of a journal")
    command.add_argument("journal", type=Path, metavar="JOURNAL")

    command = commands.add_parser("verify", help="whether a journal or a base graph is as it was written")
    command.add_argument("journal", type=Path, metavar="FILE")

    for name, help_ in (
        ("history", "every entry of a user"),
        ("undo", "take back an edit of a user"),
        ("forget", "remove a user from the journal for good"),
        ("export", "a user's graph as JSON or N-Triples"),
    ):
        command = commands.add_parser(name, help=help_)
        command.add_argument("journal", type=Path, metavar="JOURNAL")
        command.add_argument("--user", required=True, metavar="NAME")
        if name == "undo":
            command.add_argument(
                "--edit", type=positive, metavar="N", help="its number (default: the last one in force)"
            )
        if name == "export":
            command.add_argument("--format", choices=("json", "ntriples"), default="json", help="default: %(default)s")
            command.add_argument("--out", type=Path, metavar="FILE", help="default: print it")
    return parser


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run a command and return its exit code: 0, 1 (failure), 2 (usage) or 130 (interrupted)."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a build takes its half file away
    return run(program, arguments, lambda words: _command(words, program))


def _command(words: list[str], program: str) -> int:
    options = build_parser(program).parse_args(words)
    _COMMANDS[options.command](options)
    return 0


def _build(options: argparse.Namespace) -> None:
    source = options.conceptnet or options.tsv or options.mquake
    if options.out.exists() and source.exists() and options.out.samefile(source):
        raise UsageError(f"--out {options.out}: the very file that is read; give another")
    if options.lang is not None and options.conceptnet is None:
        raise UsageError("--lang chooses among ConceptNet's terms; it needs --conceptnet")
    skipped: Counter[str] = Counter()
    about: dict[str, Any] = {"source": source.name, "lang": options.lang, "skipped": skipped}
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        reading, writing = bars.add_task("reading", total=None), bars.add_task("writing", total=None, start=False)

        def read(done: int, total: int) -> None:
            bars.update(reading, completed=done, total=total)

        def written(done: int, total: int) -> None:
            bars.start_task(writing)
            bars.update(writing, completed=done, total=total)

        build(_some(_rows(options, skipped, read), source, skipped), options.out, about, written, options.force)
    _info(argparse.Namespace(graph=options.out))


def _some(rows: Iterable[Row], source: Path, skipped: Counter[str]) -> Iterable[Row]:
    """The rows.

    Raises:
        UsageError: there are none: the file is of another kind, or of another language.
    """
    none = True
    for row in rows:
        none = False
        yield row
    if none:
        why = "; ".join(f"skipped {count:,} rows: {reason}" for reason, count in skipped.most_common())
        raise UsageError(f"{source}: no triple in it{f' ({why})' if why else ''}")


def _rows(options: argparse.Namespace, skipped: Counter[str], read: Callable[[int, int], None]) -> Iterable[Row]:
    if options.mquake is not None:
        return ((*triple, 1.0) for triple in mquake.unedited_triples(options.mquake))
    if options.tsv is not None:
        return tsv_rows(read_lines(options.tsv, read), skipped)
    return conceptnet_rows(read_lines(options.conceptnet, read), options.lang, skipped)


def _info(options: argparse.Namespace) -> None:
    info = StoredGraph(options.graph).info()
    size = options.graph.stat().st_size
    print(f"{options.graph}: {info['triples']:,} triples of {info['heads']:,} heads, {size:,} bytes")
    if "source" in info:
        language = f", language {info['lang']}" if info.get("lang") else ""
        print(f"made from {info['source']}{language}; {info['duplicates']:,} rows were duplicates")
    for reason, count in sorted(info.get("skipped", {}).items(), key=lambda item: -item[1]):
        print(f"skipped {count:,} rows: {reason}")
    for phrase, count in info["relations"].items():
        print(f"{count:>12,}  {phrase}")


def _show(options: argparse.Namespace) -> None:
    graph = StoredGraph(options.graph)
    found = graph.weighted_from(options.entity, options.limit)
    if not found:
        near = [match.head for match in PersonalGraph(graph).matches(options.entity)]
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"{options.graph}: nothing starts at '{options.entity}'{hint}")
    for triple, weight in found:
        print("\t".join((*triple, f"{weight:g}")))


def _existing(options: argparse.Namespace) -> Journal:
    if not options.journal.is_file():
        raise UsageError(f"{options.journal}: no such file")
    if not options.journal.stat().st_size:  # SQLite would take it for a database, and begin a journal in it
        raise UsageError(f"{options.journal}: an empty file, no journal")
    return Journal(options.journal)


def _personal(options: argparse.Namespace) -> PersonalGraph:
    journal = _existing(options)
    if journal.user_id(options.user) is None:
        name = printable(options.user)
        raise UsageError(f"{options.journal}: no user '{name}'; '{PROGRAM} users {options.journal}' lists them")
    return PersonalGraph(MemoryGraph(), journal, options.user)


def _users(options: argparse.Namespace) -> None:
    for user in _existing(options).users():
        count = f"{user.entries:,} entr{'y' if user.entries == 1 else 'ies'}"
        print(f"{printable(user.name)}\t{count}\t{_time(user.first)}\t{_time(user.last)}")


def _verify(options: argparse.Namespace) -> None:
    if is_database(options.journal, BASE_GRAPH):
        graph = StoredGraph(options.journal)
        if not graph.sealed:
            raise KgtError(f"{options.journal}: built before base graphs had checksums; build it again to have one")
        print(f"{options.journal}: {len(graph):,} triples are as they were built")
        return
    journal = _existing(options)
    found = journal.verify()
    for text in found:
        print(printable(text))
    if found:
        raise KgtError(f"{options.journal}: {len(found)} things are not as they were written; restore it from a copy")
    users = journal.users()
    print(f"{options.journal}: {sum(user.entries for user in users):,} entries of {len(users):,} users are as written")


def _history(options: argparse.Namespace) -> None:
    graph = _personal(options)
    entries = graph.history()
    undone = {entry.undoes: entry.number for entry in entries}
    for entry in entries:
        print(_line(entry) + (f"  (taken back by {undone[entry.number]})" if entry.number in undone else ""))
        for mark, triples in (("+", entry.added), ("-", entry.removed)):
            for triple in triples:
                print(f"       {mark} {triple.line}")


def _line(entry: Edit) -> str:
    if entry.undoes is not None:
        return f"{entry.number:>5}  {_time(entry.time)}  takes back {entry.undoes}"
    known = entry.before is not None and entry.after is not None
    chance = f"  P {entry.before:.3g} -> {entry.after:.3g}" if known else ""
    return f"{entry.number:>5}  {_time(entry.time)}  {entry.query!r} -> {entry.answer!r}{chance}"


def _undo(options: argparse.Namespace) -> None:
    print(f"taken back: {_line(_personal(options).undo(options.edit)).strip()}")


def _forget(options: argparse.Namespace) -> None:
    _existing(options).forget(options.user)
    print(f"'{options.user}' is gone from {options.journal}")


def _export(options: argparse.Namespace) -> None:
    graph = _personal(options)
    text = export_json(graph) if options.format == "json" else export_ntriples(graph)
    if options.out is None:
        sys.stdout.write(text)
        return
    write_private(options.out, text)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # no date has that many seconds
        return "-"


_COMMANDS = {
    "build": _build,
    "info": _info,
    "show": _show,
    "users": _users,
    "verify": _verify,
    "history": _history,
    "undo": _undo,
    "forget": _forget,
    "export": _export,
}
