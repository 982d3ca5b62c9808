"""SQLite files that carry a mark of what they are, and SQLite's errors as one clear line."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kgt_editor.errors import KgtError, UsageError

MAGIC = b"SQLite format 3\x00"

_DAMAGED = "the file is damaged; restore it from a copy"
# SQLite's own words (sqlite3ErrStr) and what can be done about them.
_REMEDIES = {
    "locked": "another process is writing to it; try again when that is done",
    "disk is full": "nothing of this was kept; free some space and repeat it",
    "disk I/O error": "nothing of this was kept; see that the disk has space and works, and repeat it",
    "readonly": "it cannot be written to; see the permissions of the file and its folder",
    "unable to open": "see that the folder exists and the permissions of both",
    "decode to UTF-8": _DAMAGED,
    "malformed": "the file is damaged or cut off; restore it from a copy",
    "not a database": "the file is damaged or something else; restore it from a copy",
    "no such": _DAMAGED,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is for.

    Attributes:
        name: in words, for messages.
        application_id: SQLite's field for the mark.
        schema: version of the tables; a file with a newer one is refused.
    """

    name: str
    application_id: int
    schema: int

    def check(self, path: Path, application_id: int, schema: int) -> None:
        """Refuse a file with another mark or a newer schema.

        Raises:
            UsageError: it is one.
        KgtError: it has none of the versions that there have been.
        """
        if application_id != self.application_id:
            raise UsageError(f"{path}: an SQLite file, but not a {self.name}")
        if schema < 1:
            raise KgtError(f"{path}: {self.name} without a version; {_DAMAGED}")
        if schema > self.schema:
            raise UsageError(
                f"{path}: {self.name} of schema {schema}, this version reads up to {self.schema}; update kgt_editor"
            )


#: From schema 2 on with a checksum of the whole file, see :mod:`kgt_editor.graph.seal`.
BASE_GRAPH = Kind("base graph", int.from_bytes(b"KGTB", "big"), 2)
JOURNAL = Kind("journal of personal graphs", int.from_bytes(b"KGTJ", "big"), 3)


def is_database(path: Path, kind: Kind | None = None) -> bool:
    """Whether the file is an SQLite database by its first bytes, with a kind's mark; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            header = file.read(72)
    except OSError:
        return False
    return header.startswith(MAGIC) and (kind is None or header[68:] == kind.application_id.to_bytes(4, "big"))


def check_file(path: Path, kind: Kind | None = None) -> int:
    """Look at an SQLite file before it is opened (fields: SQLite's file format, section 1.3).

    Args:
        path: the file.
        kind: what it has to be; None looks at the size only.

    Returns:
        the version of its tables.

    Raises:
        UsageError: it is missing or something else.
        KgtError: it is shorter than it says.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
        size = path.stat().st_size
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if not header.startswith(MAGIC):
        raise UsageError(f"{path}: not an SQLite file")
    if len(header) < 100:
        raise KgtError(f"{path}: the file is cut off in its header; restore it from a copy")
    schema, _, application_id = struct.unpack_from(">3I", header, 60)
    if kind is not None:
        kind.check(path, application_id, schema)
    (page,) = struct.unpack_from(">H", header, 16)
    (pages,) = struct.unpack_from(">I", header, 28)
    expected = pages * (65536 if page == 1 else page)
    if size < expected:
        raise KgtError(f"{path}: the file is cut off: {size:,} bytes of {expected:,}; restore it from a copy")
    return int(schema)


def check_before_writing(path: Path) -> None:
    """Look at a file that is to be made or written to.

    Raises:
        UsageError: it is something else, or its folder is missing.
        KgtError: it is shorter than it says.
    """
    if not path.exists() or path.stat().st_size == 0:
        if not path.parent.is_dir():
            raise UsageError(f"{path}: its folder does not exist")
        return
    if path.is_dir():
        raise UsageError(f"{path}: a folder, not a file")
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:  # the newest pages may be in there
        if not is_database(path):
            raise UsageError(f"{path}: not an SQLite file")
        return
    check_file(path)


def make_private(path: Path) -> None:
    """Make an empty file that nobody but its owner can read, where there is none; SQLite gives its logs the same mode.

    Raises:
        KgtError: it cannot be made.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        reason = f"{error.strerror}; see its folder and the permissions there"
        raise KgtError(f"{path}: cannot be made: {reason}") from None


@contextmanager
def plain_errors(path: object) -> Iterator[None]:
    """Turn SQLite's errors into one line that names the file and the remedy.

    Raises:
        KgtError: SQLite failed.
        UsageError: a text holds half a surrogate pair and has no UTF-8 form.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object[:40]!r}: not valid Unicode text, cannot be stored") from error
    except UnicodeDecodeError as error:  # of SQLite's own message about a damaged schema
        raise KgtError(f"{path}: {_DAMAGED}") from error
    except sqlite3.Error as error:
        remedy = next((text for words, text in _REMEDIES.items() if words in str(error)), "")
        raise KgtError(f"{path}: {error}{'; ' if remedy else ''}{remedy}") from error
