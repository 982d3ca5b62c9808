"""A cell's log on disk, from which a process that comes later goes on where an earlier one was killed.

head.json            whose cell it is, how it is evaluated, and what its preparation took
edits.jsonl          a line an edit, as it is made
state-<N>/           all that the first N edits have changed, see ``Editor.save_state``; the latest only
records-<size>.jsonl a line a case evaluated after so many edits, as records.jsonl will hold it
cells.jsonl          a line a number of edits at which everything has been evaluated
spoiled              there where the cell has measured nothing of worth
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgt_editor.errors import KgtError
from kgt_editor.progress import Note, quiet
from kgt_editor.results import lines, shape
from kgt_editor.results.cell_log import CellLog, Stateful
from kgt_editor.results.lock import held
from kgt_editor.results.outcomes import count, outcome_of
from kgt_editor.results.schema import CaseResult, CellLine, EditResult, record_line

HEAD, EDITS, CELLS, SPOILED = "head.json", "edits.jsonl", "cells.jsonl", "spoiled"
PATIENCE = 60.0  # seconds; the worker of a parent that was killed ends when it finds nobody to report to
_STATE = "state-"


def records_name(size: int) -> str:
    """The file of the cases evaluated after ``size`` edits."""
    return f"records-{size}.jsonl"


class CellFolder(CellLog):
    """A cell's log in a folder of its own; use :meth:`opened`.

    Args:
        path: the folder, which holds nothing else.
        head: what must be the same for the cell to be resumed: ``editor``, ``seed``, ``sizes``, ``mode`` and
            whatever else decides what is in the files.
        normalise: see :meth:`kgt_editor.evaluation.metrics.CaseScores.metrics`.
        every: edits between two checkpoints.
        note: told what was found broken and is done again.
    """

    def __init__(
        self, path: Path, head: Mapping[str, Any], normalise: str, every: int = 50, note: Note = quiet
    ) -> None:
        super().__init__(head["editor"], head["seed"])
        self.path, self._normalise, self._every, self._note = path, normalise, every, note
        self._head: dict[str, Any] = {**json.loads(json.dumps(head)), "costs": {}}
        self._evaluated: dict[int, int] = {}
        self._hits: dict[int, list[bool]] = {}
        self._saved: int | None = None  # edits at the last checkpoint
        self._places: list[int] = []  # where each line of the edits begins, in bytes
        self._sequential = head["mode"] == "sequential"
        self._read()

    @classmethod
    @contextmanager
    def opened(
        cls, path: Path, head: Mapping[str, Any], normalise: str, every: int = 50, note: Note = quiet
    ) -> Iterator[CellFolder]:
        """The folder, made where there is none, and locked against other processes.

        Raises:
            InUseError: another process does not let go of it within a minute.
            KgtError: a file cannot be read or written.
        """
        with lines.writing(path):
            path.mkdir(parents=True, exist_ok=True)
        with held(path, PATIENCE):
            yield cls(path, head, normalise, every, note)

    # What is there

    def _read(self) -> None:
        head = head_of(self.path)
        if head is None or {**head, "costs": {}} != self._head or (self.path / SPOILED).exists():
            self._begin()
            return
        self._head = head
        self.finished = {line["size"] for line in lines.rows(self.path / CELLS, self._note, shape.OWN_CELL)}
        edits = lines.rows(self.path / EDITS, self._note, shape.EDIT)
        # Details stay on disk: the edits' own memory is what is measured, and they are many.
        self.edits = [_without_details(EditResult(**row)) for row in edits]
        self._places = lines.places(self.path / EDITS)

    def _begin(self) -> None:
        """Leave nothing of an earlier cell; a folder in which this was cut short has no head, and is begun again."""
        (self.path / HEAD).unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.startswith("."):  # the lock
                path.unlink()
        self.edits, self.finished, self._evaluated, self._hits, self._saved = [], set(), {}, {}, None
        self._places = []
        lines.replace(self.path / HEAD, self._head)

    @property
    def complete(self) -> bool:
        """Whether everything has been evaluated."""
        return self.finished >= set(self._head["sizes"])

    @property
    def costs(self) -> dict[str, Any]:
        """What the preparation and plain inference took when the cell was begun."""
        found: dict[str, Any] = self._head["costs"]
        return found

    def set_costs(self, costs: Mapping[str, Any]) -> None:
        """Keep what the preparation took; the first time counts, a later one may have found it in a cache."""
        if not self._head["costs"]:
            self._head["costs"] = dict(costs)
            lines.replace(self.path / HEAD, self._head)

    def spoil(self) -> None:
        """Mark the cell as one that begins with the first edit when it is given again."""
        with lines.writing(self.path / SPOILED):
            (self.path / SPOILED).touch()

    # The editor's state

    def resume(self, editor: Stateful, model: Any, tok: Any) -> Any:
        """See :meth:`CellLog.resume`; edits behind the last checkpoint are forgotten."""
        count = max(self._states(), default=0)
        if count == 0 or count > len(self.edits) or any(size > count for size in self.finished):
            if self.edits:
                self._note(f"{self._title}: {len(self.edits)} edits left no state to go on from and are made again")
                self._begin()
            return model
        try:
            loaded = editor.load_state(model, tok, self._state(count))
        except Exception as error:  # whatever a file that is not what was written may raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            remedy = f"delete {self.path} to begin this cell with the first edit"
            raise KgtError(f"{self._state(count)} cannot be read: {remedy} ({reason})") from error
        self._saved = count
        self.rewind(count)
        self._note(f"{self._title}: goes on after {count} edits")
        return loaded

    def checkpoint(self, editor: Stateful, model: Any, now: bool = False) -> None:
        """See :meth:`CellLog.checkpoint`; nothing where the editor cannot be saved.

        Raises:
            KgtError: the state cannot be written.
        """
        count = len(self.edits)
        due = count - (self._saved or 0) >= self._every or (now and count != self._saved)
        if not due:
            return
        part = self.path / f".{_STATE}part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(mode=0o700)  # what users told may be in there
            if not editor.save_state(model, part):
                shutil.rmtree(part)
                self._every = count + self._head["sizes"][-1]  # it will not be able to later on either
                return
            os.replace(part, self._state(count))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise KgtError(f"the editor's state cannot be written to {part}: {reason}") from error
        self._saved = count
        for older in self._states() - {count}:
            shutil.rmtree(self._state(older))

    def _states(self) -> set[int]:
        names = [path.name.removeprefix(_STATE) for path in self.path.glob(f"{_STATE}*")]
        return {int(name) for name in names if name.isdigit()}

    def _state(self, count: int) -> Path:
        return self.path / f"{_STATE}{count}"

    # What is measured

    def edited(self, edit: EditResult) -> None:
        super().edited(_without_details(edit))
        self._places.append(lines.append(self.path / EDITS, [vars(edit)]))

    def edits_with_details(self, start: int, stop: int) -> list[EditResult]:
        with (self.path / EDITS).open("rb") as file:
            file.seek(self._places[start])
            return [EditResult(**json.loads(file.readline())) for _ in range(start, stop)]

    def rewind(self, count: int) -> None:
        if count < len(self.edits):
            with lines.writing(self.path / EDITS):
                os.truncate(self.path / EDITS, self._places[count])
            super().rewind(count)
            del self._places[count:]

    def evaluated(self, size: int) -> int:
        """See :meth:`CellLog.evaluated`; of a batch that was not written whole, nothing is kept."""
        if size not in self._evaluated:
            path = self.path / records_name(size)
            hits = [row["recalled"] for row in lines.rows(path, self._note, shape.OWN_RECORD)]
            whole = min(len(hits), len(self.edits))
            if self._sequential and whole < size:
                whole -= whole % self._head["cases_a_batch"]
            if whole < len(hits):
                lines.keep(path, lambda row: row["position"] < whole)
            self._evaluated[size], self._hits[size] = whole, [hit for of_case in hits[:whole] for hit in of_case]
        return self._evaluated[size]

    def recalled(self, size: int) -> list[bool]:
        self.evaluated(size)
        return self._hits[size]

    def add(self, size: int, cases: Sequence[CaseResult]) -> None:
        before = self.evaluated(size)
        rows = [record_line(self.editor, self.seed, size, case, self._normalise) for case in cases]
        lines.append(self.path / records_name(size), rows)
        self._evaluated[size] = before + len(cases)
        self._hits[size] += [hit for case in cases for hit in case.recalled]

    def finish(self, size: int, recalled: Sequence[bool], memory: dict[str, Any] | None = None) -> None:
        failures = [edit.failure for edit in self.edits[:size] if edit.failure is not None]
        row: CellLine = {
            "editor": self.editor,
            "seed": self.seed,
            "size": size,
            "status": "complete",
            "reason": None,
            "cases": size,
            "failed_edits": len(failures),
            "first_failure": failures[0] if failures else None,
            "edit_outcomes": count(outcome_of(edit.details) for edit in self.edits[:size]),
            "recalled": list(recalled),
            "peak_memory_bytes": self.peak(size),
            "device_memory": memory,
            "state_bytes": self._state_bytes(size),
        }
        row.update(self.costs)  # type: ignore[typeddict-item]
        lines.append(self.path / CELLS, [row])
        self.finished.add(size)

    def _state_bytes(self, size: int) -> int | None:
        """What the edits take on disk; None where the editor cannot be saved."""
        if not self._sequential or self._saved != size:
            return None
        return sum(path.stat().st_size for path in self._state(size).rglob("*") if path.is_file())

    @property
    def _title(self) -> str:
        return f"{self.editor}, seed {self.seed}"


def _without_details(edit: EditResult) -> EditResult:
    """The edit with no more of its details than its outcome."""
    outcome = outcome_of(edit.details)
    return replace(edit, details={"outcome": outcome} if outcome else None)


def head_of(folder: Path) -> dict[str, Any] | None:
    """What the folder's head says; None where there is none, or none that can be read."""
    try:
        head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if shape.mismatch(head, shape.HEAD) else head
