"""JSON on disk: files that are whole or not there, and files of lines that may end in the middle of one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kgt_editor.errors import KgtError
from kgt_editor.results.shape import mismatch, storable

_OBJECT: dict[str, Any] = {}  # the form of an object that may hold anything
# In a line, one of whose values may not be written out again: half a surrogate pair, NaN, a number too large.
_RARE = re.compile(rb"\\u|NaN|Infinity|[eE]\+?\d{3}")


class DiskError(KgtError):
    """A file of a run cannot be written: the disk is full, or gone. What was written before stands."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing ``path`` into one line.

    Raises:
        DiskError: names the file, the reason and the remedy.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(
            f"cannot write {path}: {reason}; nothing measured before is lost: make room and give the same command again"
        ) from None


def line_of(row: Mapping[str, Any]) -> str:
    """A row as a line of a file.

    Raises:
        ValueError: it holds NaN or infinity, which JSON has not.
    """
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Append rows; they are with the system, safe from the end of this process, when the call returns.

    Returns:
        where in the file the first of them begins, in bytes.

    Raises:
        DiskError: they cannot be written, or not all of them.
    """
    text = "".join(map(line_of, rows))
    with writing(path), path.open("ab") as file:
        place = file.tell()
        file.write(text.encode())
    return place


def replace(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        DiskError: it cannot be written; the old file stands.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    part = path.with_name(f".{path.name}.part")
    with writing(path):
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, path)


def rows(path: Path, note: Callable[[str], None] | None = None, form: Any = _OBJECT) -> Iterator[dict[str, Any]]:
    """The rows of a file; none where there is no file.

    A last line that is broken (its process was killed, or the disk full, while it was written) is cut off the file.

    Args:
        note: told of a line that was cut off.
        form: what a row has to have, see :func:`kgt_editor.results.shape.mismatch`; NaN it never has.

    Raises:
        KgtError: another line is broken, or not of this form, or the file cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise KgtError(f"{path}: cannot be read: {error.strerror or error}") from None
    with file:
        end = 0
        for number, line in enumerate(file, 1):
            row = _parsed(line)
            if row is None:
                if next(file, None) is not None:
                    raise KgtError(f"{path}, line {number}: not valid JSON; restore the file or delete its folder")
                break
            unstorable = _RARE.search(line) and mismatch(row, storable)
            if wrong := unstorable or mismatch(row, form):
                raise KgtError(f"{path}, line {number}: {wrong}; restore the file or delete its folder")
            yield row
            end += len(line)
        else:
            return
    with writing(path):
        os.truncate(path, end)
    if note is not None:
        note(f"{path.parent.name}/{path.name}: its last line was broken and is cut off; what it told is done again")


def _parsed(line: bytes) -> dict[str, Any] | None:
    """None for a line that is broken, and for one whose end is not there: more may have been meant to follow."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if line.endswith(b"\n") and isinstance(row, dict) else None


def places(path: Path) -> list[int]:
    """Where each line of a file begins, in bytes; none where there is no file."""
    found, end = [], 0
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                found.append(end)
                end += len(line)
    return found


def keep(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leave only the rows that are wanted; the file is replaced whole.

    Raises:
        DiskError: there is no room for the new file; the old one stands.
    """
    if not path.is_file():
        return
    part = path.with_name(f".{path.name}.part")
    with writing(path):
        with part.open("w", encoding="utf-8") as file:
            file.writelines(line_of(row) for row in rows(path) if wanted(row))
        os.replace(part, path)
