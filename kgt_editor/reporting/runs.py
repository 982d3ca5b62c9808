"""Reading run folders: ``manifest.json``, ``records.jsonl`` or its figures alone, ``cells.jsonl``, ``summary.json``."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kgt_editor.errors import UsageError
from kgt_editor.reporting.names import CASE_MEASURES, OUTCOMES, SHARES
from kgt_editor.results import compact, shape
from kgt_editor.results.schema import CellFailure, check_manifest, sizes_of

_OF_A_CASE = tuple(name for name in CASE_MEASURES if name != "unedited_recall")


class KGTEdit(NamedTuple):
    """One edit of a graph, as the page lists it; probabilities are None where a run does not have them."""

    case_id: int
    position: int
    before: float | None
    after: float | None
    triples: tuple[tuple[str, str, str, str, float | None, float | None], ...]


class Answered(NamedTuple):
    """What an editor's model says to an edit's query at the end, whether that is the new answer, and why it failed."""

    said: str | None
    held: bool | None
    failure: str | None


@dataclass
class Run:
    """One run as its files say.

    Attributes:
        path: its folder.
        manifest: what was asked, with what, when.
        cells: the last line of ``cells.jsonl`` for each (editor, seed, size).
        cases: a line a case: ``editor``, ``seed``, ``size``, ``case_id``, ``position``, ``edit_seconds``, ``failed``,
            ``evaluated``, the metrics and ``outcome`` (a position in ``names.OUTCOMES``, -1 for none); None where the
            run has no records.
        summary: ``summary.json``; None where the run has not ended.
        edits: (editor, seed): the edits of a graph, as they were evaluated last.
        answers: (editor, seed): case -> what became of its edit, as it was evaluated last.
        requests: (seed, case): the position in the order of edits, and what was asked for.
        said_before: (seed, case): what the unedited model says.
        notices: what is wrong or missing, one sentence each.
    """

    path: Path
    manifest: dict[str, Any]
    cells: dict[tuple[str, int, int], dict[str, Any]] = field(default_factory=dict)
    cases: pd.DataFrame | None = None
    summary: dict[str, Any] | None = None
    edits: dict[tuple[str, int], list[KGTEdit]] = field(default_factory=dict)
    answers: dict[tuple[str, int], dict[int, Answered]] = field(default_factory=dict)
    requests: dict[tuple[int, int], tuple[int, dict[str, str]]] = field(default_factory=dict)
    said_before: dict[tuple[int, int], str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.manifest.get("run", self.path.name))

    @property
    def config(self) -> dict[str, Any]:
        """What was asked for."""
        found: dict[str, Any] = self.manifest["config"]
        return found

    @property
    def environment(self) -> dict[str, Any]:
        """What it was made with; empty where the manifest does not say."""
        found: dict[str, Any] = self.manifest.get("environment") or {}
        return found

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of edits after which its cells were evaluated, the smallest first."""
        return sizes_of(self.config)

    @property
    def size(self) -> int:
        """Edits a cell."""
        return self.sizes[-1]


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run folders among ``paths`` and right below them, each once.

    Raises:
        UsageError: a path is no folder, or holds no run.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder; give a run folder, as in results/<run>")
        here = [path] if (path / "manifest.json").is_file() else []
        below = sorted(one.parent for one in path.glob("*/manifest.json"))
        if not here + below:
            raise UsageError(f"{path}: holds no run (no manifest.json in it or one level below); make one: compare.py")
        found.update(dict.fromkeys(here or below))
    return list(found)


def read_run(path: Path) -> Run:
    """Read one run; what is unfinished or missing becomes a notice.

    Raises:
        UsageError: the files are of another schema version, or damaged.
    """
    manifest = _json(path / "manifest.json")
    check_manifest(manifest, path / "manifest.json")
    _check(manifest, shape.MANIFEST, str(path / "manifest.json"))
    run = Run(path, manifest)
    if (path / "summary.json").is_file():
        run.summary = _json(path / "summary.json")
        _check(run.summary, shape.SUMMARY, str(path / "summary.json"))
    if (path / "cells.jsonl").is_file():
        for number, cell in enumerate(_lines(path / "cells.jsonl", run), 1):
            where = f"{path / 'cells.jsonl'}, line {number}: no cell of schema {manifest['schema_version']}"
            _check(cell, shape.CELL, where)
            run.cells[cell["editor"], cell["seed"], cell.get("size", run.size)] = cell
    if (path / "records.jsonl").is_file():
        _read_records(path / "records.jsonl", run)
    elif (path / compact.FILE).is_file():
        _read_figures(path / compact.FILE, run)
    _look_for_gaps(run)
    return run


def _check(value: Any, form: Any, where: str) -> None:
    if wrong := shape.mismatch(value, form):
        raise UsageError(f"{where}: {wrong}; the file is damaged, or no run's")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: must hold a JSON object, not {type(found).__name__}")
    return found


def _lines(path: Path, run: Run) -> Iterator[dict[str, Any]]:
    """The file's lines; a last line that was cut off is a notice, any other broken one an error."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                if line.endswith("\n"):
                    raise UsageError(f"{path}, line {number}: not valid JSON: {error}") from None
                run.notices.append(f"{run.name}: the last line of {path.name} is cut off and left out")


class _Cases:
    """The columns of :attr:`Run.cases` as they grow: arrays, as 20,000 edits and 8 editors have 175,000 lines."""

    def __init__(self) -> None:
        self.editors: list[str] = []
        self.columns: dict[str, Any] = {name: array("d") for name in ("edit_seconds", *_OF_A_CASE)}
        whole = ("seed", "size", "case_id", "position", "failed", "evaluated", "outcome")
        self.columns |= {name: array("q") for name in whole}

    def add(self, line: dict[str, Any], size: int) -> None:
        """Take in a record; ``size`` is for the runs that did not say it.

        Raises:
            ValueError: a share is not between 0 and 1, or the outcome is unknown.
        """
        nan, metrics, seconds = float("nan"), line["metrics"], line["edit_seconds"]
        self.editors.append(line["editor"])
        values = {name: line[name] for name in ("seed", "case_id", "position")}
        values |= {"size": line.get("size", size), "failed": line["failure"] is not None}
        values |= {"evaluated": metrics is not None, "outcome": _outcome(line.get("details") or {})}
        values |= {"edit_seconds": nan if seconds is None else seconds}
        for name in _OF_A_CASE:
            value = metrics.get(name) if metrics else None
            if value is not None and name in SHARES and not 0 <= value <= 1:
                raise ValueError(f"{name} {value} is no share")
            values[name] = nan if value is None else value
        for name, value in values.items():
            self.columns[name].append(value)

    def frame(self) -> pd.DataFrame:
        """A line a case: a cell that was begun again wrote its cases anew, and the last line counts."""
        # Views of the arrays, not copies through lists.
        frame = pd.DataFrame({name: pd.Series(memoryview(values), copy=True) for name, values in self.columns.items()})
        frame.insert(0, "editor", pd.Categorical(self.editors))
        frame[["failed", "evaluated"]] = frame[["failed", "evaluated"]].astype(bool)
        return frame.drop_duplicates(["editor", "seed", "size", "case_id"], keep="last", ignore_index=True)


def _read_records(path: Path, run: Run) -> None:
    cases = _Cases()
    edits: dict[tuple[str, int], dict[int, list[KGTEdit]]] = {}
    largest: dict[tuple[str, int], int] = {}
    for number, line in enumerate(_lines(path, run), 1):
        try:
            if wrong := shape.mismatch(line, shape.RECORD):
                raise ValueError(wrong)
            cases.add(line, run.size)
            editor, seed, size = line["editor"], line["seed"], line.get("size", run.size)
            if editor == "none":
                if line.get("said") is not None:
                    run.said_before[seed, line["case_id"]] = line["said"]
                continue
            if line.get("details") or line["failure"] is not None:
                edits.setdefault((editor, seed), {}).setdefault(size, []).append(_edit(line))
            if size >= largest.setdefault((editor, seed), size):
                largest[editor, seed] = size
                run.answers.setdefault((editor, seed), {})[line["case_id"]] = _answered(line)
                run.requests.setdefault((seed, line["case_id"]), (line["position"], line.get("request") or {}))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            version = run.manifest["schema_version"]
            raise UsageError(f"{path}, line {number}: no record of schema {version}: {error}") from None
    run.cases = cases.frame()
    for key, by_size in edits.items():
        last = by_size[max(by_size)]
        if any(edit.triples for edit in last):  # else failures of an editor that changes weights
            run.edits[key] = sorted({edit.case_id: edit for edit in last}.values(), key=lambda edit: edit.position)


def _read_figures(path: Path, run: Run) -> None:
    cases = _Cases()
    for number, line in enumerate(compact.read(path), 2):
        try:
            cases.add(line, run.size)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: no record: {error}") from None
    run.cases = cases.frame()


def _outcome(details: dict[str, Any]) -> int:
    found = details.get("outcome")
    return -1 if found is None else list(OUTCOMES).index(found)


def _answered(line: dict[str, Any]) -> Answered:
    accuracy = (line["metrics"] or {}).get("efficacy_accuracy")
    said = line.get("said")
    return Answered(said and sys.intern(said), None if accuracy is None else bool(accuracy), line["failure"])


def _edit(line: dict[str, Any]) -> KGTEdit:
    details = line.get("details") or {}
    return KGTEdit(
        line["case_id"],
        line["position"],
        details.get("before"),
        details.get("after"),
        tuple(
            (*one["triple"], one["change"], one.get("retrieval"), one.get("reasoning"))
            for one in details.get("triples", ())
        ),
    )


def _look_for_gaps(run: Run) -> None:
    status = run.manifest.get("status")
    if status == "running":
        run.notices.append(
            f"{run.name}: still in progress, or killed: only its complete cells are in the tables "
            f"({_complete(run)} of {len(run.config['editors']) * run.config['seeds'] * len(run.sizes)})"
        )
    summary = run.summary or {}
    for failure in (CellFailure(**one) for one in summary.get("failed", ())):
        run.notices.append(f"{run.name}: editor '{failure.editor}', {failure.where} failed: {failure.reason}")
    for gap in summary.get("missing", ()):
        left = ", ".join(f"{size:,}" for size in gap.get("sizes", ()))
        run.notices.append(
            f"{run.name}: editor '{gap['editor']}', seed {gap['seed']} was not run to its end"
            + (f" (missing: {left} edits)" if left else "")
        )


def _complete(run: Run) -> int:
    return sum(cell["status"] == "complete" for cell in run.cells.values())
