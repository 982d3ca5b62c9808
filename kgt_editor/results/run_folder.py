"""A run's folder, named by its configuration: what is there is kept, what is missing is added."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.progress import Note, quiet
from kgt_editor.results import lines, shape
from kgt_editor.results.cell_folder import CELLS, PATIENCE, head_of, records_name
from kgt_editor.results.lock import held
from kgt_editor.results.schema import SCHEMA_VERSION

MANIFEST, RECORDS, SUMMARY = "manifest.json", "records.jsonl", "summary.json"
UNFINISHED, REPORT, BASE_ANSWERS = "cells", "report", "base_answers"

#: A cell after a number of edits: editor, seed, size.
Key = tuple[str, int, int]


class RunFolder:
    """One run's folder; use :meth:`opened`.

    ``manifest.json`` says what was asked, ``records.jsonl`` and ``cells.jsonl`` hold the cells that were measured to
    an end (a line a case, and a line a cell, for each number of edits), ``summary.json`` the table. Cells under way
    are in folders of their own below ``cells/``; what the model says without any edit, which they share, is in
    ``base_answers/`` until the run is complete.

    Attributes:
        path: the folder.
        done: the cells that ``records.jsonl`` and ``cells.jsonl`` hold whole.
    """

    def __init__(self, path: Path, note: Note = quiet) -> None:
        self.path, self._note = path, note
        self.done: set[Key] = set()

    @staticmethod
    def place(out: Path, label: str, config: dict[str, Any]) -> Path:
        """``<label>-<hash of config>`` below ``out``."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", label)
        return out / f"{stem}-{config_hash(config)}"

    @classmethod
    @contextmanager
    def opened(cls, path: Path, config: dict[str, Any], note: Note = quiet, anew: bool = False) -> Iterator[RunFolder]:
        """The folder, made where there is none, locked against other processes, and mended where a process was killed.

        Args:
            config: what was asked, as the manifest will hold it.
            note: told what was found broken and is done again.
            anew: delete the run that is there, whatever it is.

        Raises:
            InUseError: another process works on it.
            UsageError: it holds a run of another schema version or another configuration, or a symbolic link.
            KgtError: a file cannot be read or written.
        """
        with lines.writing(path):
            path.mkdir(parents=True, exist_ok=True)
        _refuse_links(path)
        with held(path):
            folder = cls(path, note)
            if anew:
                folder._clear()
            folder._check_manifest(config)
            folder._mend()
            yield folder

    def manifest(self) -> dict[str, Any] | None:
        """What the manifest says; None where the run has not been begun.

        Raises:
            UsageError: it is no JSON.
        """
        try:
            found = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.path / MANIFEST} cannot be read ({error}): {_REMEDY}") from None
        return found if isinstance(found, dict) else {}

    def _check_manifest(self, config: dict[str, Any]) -> None:
        manifest = self.manifest()
        if manifest is None:
            return
        version = manifest.get("schema_version")
        if version != SCHEMA_VERSION:
            raise UsageError(
                f"{self.path / MANIFEST} is of schema version {version}, this is version {SCHEMA_VERSION}: {_REMEDY}"
            )
        asked, there = json.loads(json.dumps(config, default=str)), manifest.get("config") or {}
        wrong = shape.mismatch(there, shape.row, "config")
        changed = [] if wrong else sorted(n for n in there.keys() | asked.keys() if there.get(n) != asked.get(n))
        if changed:
            raise UsageError(f"{self.path / MANIFEST} is of a run with another {', '.join(changed)}: {_REMEDY}")
        wrong = wrong or shape.mismatch(manifest, shape.storable) or shape.mismatch(manifest, shape.OWN_MANIFEST)
        if wrong:
            raise UsageError(f"{self.path / MANIFEST}: {wrong}; the file is damaged: {_REMEDY}")

    def _mend(self) -> None:
        """Find the cells that are whole and leave nothing of the others."""
        wanted: dict[Key, int] = {_key(row): row["cases"] for row in self._rows(CELLS, shape.OWN_CELL)}
        found = Counter(_key(row) for row in self._rows(RECORDS, shape.OWN_RECORD))
        self.done = {key for key, cases in wanted.items() if found[key] == cases}
        for editor, seed, size in sorted(wanted.keys() - self.done):
            self._note(f"{RECORDS} does not hold all of '{editor}', seed {seed}, {size} edits; measured again")
        if set(found) != self.done:
            lines.keep(self.path / RECORDS, lambda row: _key(row) in self.done)
        if set(wanted) != self.done:
            lines.keep(self.path / CELLS, lambda row: _key(row) in self.done)

    def _rows(self, name: str, form: Any) -> Iterator[dict[str, Any]]:
        return lines.rows(self.path / name, self._note, form)

    def _clear(self) -> None:
        """Delete what a run wrote here."""
        with lines.writing(self.path):
            for name in (UNFINISHED, REPORT, BASE_ANSWERS):
                if (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)
            for path in (*(self.path / name for name in (RECORDS, CELLS, SUMMARY, MANIFEST)), *self.path.glob("*.log")):
                path.unlink(missing_ok=True)

    def forget_answers(self) -> None:
        """Delete what the cells shared; the records hold what was made of it."""
        shutil.rmtree(self.path / BASE_ANSWERS, ignore_errors=True)

    def cell(self, editor: str, seed: int) -> Path:
        """The folder of a cell under way."""
        return self.path / UNFINISHED / f"{editor.replace(':', '-')}-{seed}"

    def gather(self, cell: Path) -> list[dict[str, Any]]:
        """Take in what a cell's folder holds to an end; the folder goes when nothing is left to be done in it.

        A kill in the midst of it loses nothing and doubles nothing: what is in ``records.jsonl`` without a line in
        ``cells.jsonl`` is taken out again when the run is opened.

        Args:
            cell: the cell's folder.

        Returns:
            the new lines of ``cells.jsonl``.

        Raises:
            InUseError: another process works on the cell and does not let go of it within a minute.
            DiskError: there is no room.
        """
        with held(cell, PATIENCE):
            head = head_of(cell)
            if head is None:  # its process was killed before it began
                return []
            taken = [
                self._take(cell, row)
                for row in lines.rows(cell / CELLS, self._note, shape.OWN_CELL)
                if _key(row) not in self.done
            ]
            if all((head["editor"], head["seed"], size) in self.done for size in head["sizes"]):
                with lines.writing(cell):
                    shutil.rmtree(cell)
        with suppress(OSError):  # other cells are under way
            cell.parent.rmdir()
        return taken

    def _take(self, cell: Path, row: dict[str, Any]) -> dict[str, Any]:
        with (
            lines.writing(self.path / RECORDS),
            (self.path / RECORDS).open("ab") as file,
            (cell / records_name(row["size"])).open("rb") as part,
        ):
            shutil.copyfileobj(part, file)
            file.flush()
            os.fsync(file.fileno())
        lines.append(self.path / CELLS, [row])
        self.done.add(_key(row))
        return row

    def unfinished(self) -> list[Path]:
        """The folders of cells under way."""
        return sorted(path for path in (self.path / UNFINISHED).glob("*") if path.is_dir())

    def cells(self) -> list[dict[str, Any]]:
        """The lines of ``cells.jsonl``."""
        return list(lines.rows(self.path / CELLS))

    def records(self) -> Iterator[dict[str, Any]]:
        """The lines of ``records.jsonl``."""
        return lines.rows(self.path / RECORDS)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file whole or not at all."""
        lines.replace(self.path / name, content)


def check_writable(folder: Path) -> None:
    """Make the output folder and find out whether files can be written there.

    Raises:
        UsageError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot write to the output folder {folder}: {reason}; give another with --out") from None


def config_hash(config: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change with anything in ``config``."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


_REMEDY = "give another folder with --out, or --overwrite always to begin anew"


def _key(row: dict[str, Any]) -> Key:
    try:
        return row["editor"], row["seed"], row["size"]
    except KeyError as error:
        raise KgtError(f"a line has no {error}; this is no run of schema version {SCHEMA_VERSION}") from None


def _refuse_links(folder: Path) -> None:
    """A link in a run's folder, which others may have sent, would have files elsewhere written to, or deleted."""
    for parent, folders, files in os.walk(folder):  # it follows none itself
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink():
                raise UsageError(
                    f"{path} is a symbolic link, and what belongs to a run stays in its folder: remove the link, or "
                    "give another --out"
                )
