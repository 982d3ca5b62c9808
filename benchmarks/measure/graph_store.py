"""Measure the knowledge graph at ConceptNet's size: ``python benchmarks/measure/graph_store.py``.

It makes a synthetic dump in ConceptNet 5's form, with as many triples as the English part has and a few hubs of
thousands of edges, builds a base graph from it, and times what KGT asks of a graph. Every figure is printed beside
what was asked and goes into one JSON file. ``--data DIR`` builds the graphs of real ConceptNet files too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from graph_linking import linking, rss, timings
from synthetic_conceptnet import synthetic, word

from kgt_editor.graph.build import build
from kgt_editor.graph.conceptnet import conceptnet_rows, read_lines, tsv_rows
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.stored import StoredGraph
from kgt_editor.graph.triple import Triple

ROOT = Path(__file__).resolve().parents[2]


def in_child(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What ``work`` returns, run in a new process, with the peak of that process's memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_measured, (work, *arguments))
    return dict(found)


def _measured(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    found = work(*arguments)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {**found, "peak_rss_mb": int(status["VmHWM"].split()[0]) * 1024 / 1e6}


def ingest(source: Path, out: Path) -> dict[str, Any]:
    """Build a base graph and say how long it took."""
    skipped: Counter[str] = Counter()
    start, cpu = time.perf_counter(), time.process_time()
    lines = read_lines(source)
    is_dump = ".csv" in source.suffixes
    rows = conceptnet_rows(lines, "en", skipped) if is_dump else tsv_rows(lines, skipped)
    triples = build(rows, out, {"source": source.name, "skipped": skipped})
    seconds = time.perf_counter() - start
    return {
        "file": source.name,
        "source_mb": source.stat().st_size / 1e6,
        "triples": triples,
        "skipped": dict(skipped),
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,  # what it would take on a machine that does nothing else
        "file_mb": out.stat().st_size / 1e6,
    }


def sample(path: Path, count: int) -> tuple[list[str], list[str]]:
    """Heads drawn evenly, and heads drawn by their number of edges."""
    db = sqlite3.connect(path)
    rows = db.execute(
        "SELECT head, max(rank) + length(weights) - length(replace(weights, ' ', '')) + 1 FROM edges GROUP BY head"
    ).fetchall()
    rng = random.Random(0)
    names = [row[0] for row in rows]
    return rng.choices(names, k=count), rng.choices(names, weights=[row[1] for row in rows], k=count)


def read_base(path: Path, evenly: list[str], by_degree: list[str]) -> dict[str, Any]:
    """Open and look up, as a process that does nothing else."""
    before = rss()
    opened = timings(lambda _: StoredGraph(path).close(), [None] * 50)
    graph = StoredGraph(path)
    triples = [graph.triples_from(head)[-1] for head in by_degree[:2000]]
    return {
        "open_ms": opened["p50_us"] / 1000,
        "open_max_ms": opened["p99_us"] / 1000,
        "heads_evenly": timings(lambda head: graph.triples_from(head, 64), evenly),
        "heads_by_degree": timings(lambda head: graph.triples_from(head, 64), by_degree),
        "largest_hub_all_edges_us": timings(lambda head: graph.triples_from(head), ["bax"] * 20)["p50_us"],
        "contains": timings(lambda triple: triple in graph, triples),
        "rows_read_by_degree_mean": statistics.mean(len(graph.triples_from(head, 64)) for head in by_degree[:2000]),
        "rss_growth_mb": rss() - before,
    }


def personal(path: Path, journal: Path, by_degree: list[str], count: int) -> dict[str, Any]:
    """A user's durable adds, a session's start, and look-ups through the overlay."""
    base = StoredGraph(path)
    found: dict[str, Any] = {"triples": count}
    graph = PersonalGraph(base, Journal(journal), "ada")
    heads = [by_degree[index] if index % 2 else f"my {word(index)}" for index in range(count)]
    new = [Triple(head, "is my favourite", f"{word(index)} {index}") for index, head in enumerate(heads)]
    found["durable_add"] = timings(lambda z: graph.commit("What is it?", z.tail, [z], before=0.1, after=0.9), new)
    full = PersonalGraph(base, Journal(journal.with_suffix(".full"), sync="full"), "ada")
    found["durable_add_full_sync"] = timings(lambda z: full.commit("What is it?", z.tail, [z]), new[:500])
    memory = PersonalGraph(base)
    found["ephemeral_add"] = timings(lambda z: memory.commit("What is it?", z.tail, [z]), new[:2000])
    cpu = time.process_time()
    opened = timings(lambda _: PersonalGraph(base, Journal(journal), "ada").link("x"), [None] * 15)
    found["session_open_ms"] = opened["p50_us"] / 1000
    found["session_open_cpu_ms"] = (time.process_time() - cpu) * 1000 / 15
    found["journal_mb"] = journal.stat().st_size / 1e6
    asked = [by_degree[index] for index in range(1, count, 2)]
    rounds: dict[str, list[float]] = {"base": [], "overlay": []}
    for _ in range(5):  # in turn, so that a busy machine slows both alike
        rounds["base"].append(timings(lambda head: base.triples_from(head, 64), asked)["p50_us"])
        rounds["overlay"].append(timings(lambda head: graph.triples_from(head, 64), asked)["p50_us"])
    found |= {f"look_up_{name}_p50_us": statistics.median(values) for name, values in rounds.items()}
    found["overlay_to_base"] = found["look_up_overlay_p50_us"] / found["look_up_base_p50_us"]
    numbers = random.Random(0).sample(range(1, count + 1), 200)
    found["undo"] = timings(graph.undo, numbers)
    found["explain"] = timings(graph.explain, graph.added[:2000])
    found["as_of_ms"] = timings(graph.as_of, [count // 2] * 3)["p50_us"] / 1000
    start = time.perf_counter()
    graph._journal.forget("ada")
    found["forget_ms"] = (time.perf_counter() - start) * 1000
    return found


def kills(folder: Path, times: int) -> dict[str, Any]:
    """Kill a writer ``times`` times at random moments; count what the journal lost or broke."""
    rng = random.Random(0)
    journal = folder / "killed.db"
    lost = broken = acknowledged = 0
    for _ in range(times):
        writer = subprocess.Popen(
            [sys.executable, __file__, "--write", str(journal)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        numbers = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        acknowledged = max([acknowledged, *numbers])
        entries = PersonalGraph(MemoryGraph(), Journal(journal), "ada").history()
        lost += max(0, acknowledged - len(entries))
        broken += sum(len(entry.added) != 3 or len(entry.removed) != 0 for entry in entries)
        broken += [entry.number for entry in entries] != list(range(1, len(entries) + 1))
    return {"kills": times, "edits_acknowledged": acknowledged, "edits_lost": lost, "entries_broken": broken}


def write_until_killed(journal: Path) -> None:
    """Make edits of three triples and print the number of each once it is in the journal."""
    graph = PersonalGraph(MemoryGraph(), Journal(journal), "ada")
    print("ready", flush=True)
    while True:
        stem = str(time.time_ns())
        edit = graph.commit("q", "a", [Triple(f"dog {stem}", "likes", f"meat {part}") for part in "abc"])
        print(edit.number, flush=True)


def machine() -> dict[str, Any]:
    """Where the figures were taken, and how busy it was."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every figure, by part."""
    found: dict[str, Any] = {"triples": options.triples, "machine_at_start": machine()}
    dump, graph = folder / f"synthetic-{options.triples}.csv", folder / "base.db"
    if not dump.exists():
        print(f"writing {options.triples:,} assertions to {dump}", flush=True)
        part = dump.with_suffix(".part")
        found["synthetic"] = in_child(synthetic, part, options.triples)
        part.rename(dump)
    for name, work in {
        "ingest": lambda: in_child(ingest, dump, graph),
        "real_files": lambda: [
            in_child(ingest, file, folder / f"{file.name}.db")
            for file in sorted(options.data.glob("conceptnet*.gz") if options.data else ())
        ],
        "base": lambda: in_child(read_base, graph, *sample(graph, 20_000)),
        "personal": lambda: in_child(
            personal,
            graph,
            Path(tempfile.mkdtemp(dir=folder)) / "journal.db",
            sample(graph, options.personal)[1],
            options.personal,
        ),
        "linking": lambda: in_child(linking, folder, graph, 90_000, 20_000),
        "kills": lambda: kills(Path(tempfile.mkdtemp(dir=folder)), options.kills),
    }.items():
        print(f"{name} ...", flush=True)
        found[name] = work()
        print(json.dumps(found[name], indent=1), flush=True)
    return found | {"machine_at_end": machine()}


def asked(found: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Name, figure and bound of everything that was asked for."""
    yield "ingest, seconds", found["ingest"]["seconds"], 120
    yield "ingest, peak RSS in MB", found["ingest"]["peak_rss_mb"], 400
    yield "base graph file, MB", found["ingest"]["file_mb"], 250
    base, own = found["base"], found["personal"]
    yield "open, ms", base["open_ms"], 5
    for name in ("evenly", "by_degree"):
        yield f"top-64 look-up p50, heads drawn {name}, us", base[f"heads_{name}"]["p50_us"], 20
        yield f"top-64 look-up p99, heads drawn {name}, us", base[f"heads_{name}"]["p99_us"], 150
    yield "reader's RSS growth, MB", base["rss_growth_mb"], 50
    yield "durable add p50, us", own["durable_add"]["p50_us"], 200
    yield f"session open with {own['triples']:,} personal triples, ms", own["session_open_ms"], 100
    yield "look-up through the overlay, times the base's", own["overlay_to_base"], 2
    yield "link a query p50, us", found["linking"]["base_stored"]["p50_us"], 200
    yield "link a query p99, us", found["linking"]["base_stored"]["p99_us"], 200
    yield "edits lost by kill -9", found["kills"]["edits_lost"], 0
    yield "entries broken by kill -9", found["kills"]["entries_broken"], 0


def main() -> int:
    """Measure everything and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--triples", type=int, default=3_400_000, help="default: %(default)s")
    parser.add_argument("--personal", type=int, default=20_000, help="a user's triples (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of real ConceptNet files (conceptnet*.gz)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the files that are made, and use them again")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "graph" / "graph_store.json")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_until_killed(options.write)
    folder = options.work or Path(tempfile.mkdtemp(prefix="graph_store."))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = measure(options, folder)
    finally:
        if options.work is None:
            shutil.rmtree(folder)
    rows = [{"figure": name, "measured": value, "at_most": bound} for name, value, bound in asked(found)]
    for row in rows:
        mark = "ok" if row["measured"] <= row["at_most"] else "MISSED"
        print(f"{row['figure']:<55} {row['measured']:>12,.2f}   at most {row['at_most']:>5}   {mark}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"asked": rows, **found}, indent=1) + "\n", encoding="utf-8")
    print(f"Results: {options.out}")
    return 0 if all(row["measured"] <= row["at_most"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
