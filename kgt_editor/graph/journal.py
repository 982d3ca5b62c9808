"""What users told their graphs, in one SQLite file for all of them.

Entries are only ever appended: taking an edit back is an entry too. So any earlier state can be made again, and
nothing but :meth:`Journal.forget` removes a row.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.database import JOURNAL, check_before_writing, make_private, plain_errors
from kgt_editor.graph.entry import Edit, Place, User
from kgt_editor.graph.triple import Triple, stored_triple

_SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE edits (
    user INTEGER NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL, query TEXT NOT NULL, answer TEXT NOT NULL,
    before REAL, after REAL, undoes INTEGER, told INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (user, number)
) WITHOUT ROWID;
CREATE INDEX undone ON edits (user, undoes) WHERE undoes IS NOT NULL;
CREATE TABLE changes (
    user INTEGER NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL,
    operation TEXT NOT NULL CHECK (operation IN ('add', 'remove')),
    head TEXT NOT NULL, relation TEXT NOT NULL, tail TEXT NOT NULL, PRIMARY KEY (user, number, position)
) WITHOUT ROWID;
CREATE INDEX touched ON changes (user, head);
"""

#: Numbers of the edits that were taken back, at the moment of entry :upto.
_UNDONE = "SELECT undoes FROM edits INDEXED BY undone WHERE user = :user AND undoes IS NOT NULL AND number <= :upto"
#: Whether the edit of a row was taken back.
_IS_UNDONE = "EXISTS (SELECT 1 FROM edits AS later WHERE later.user = :user AND later.undoes = {}.number)"
_LAST = 1 << 62
#: What turns a journal of an earlier schema into one of the next.
_UPGRADES = {1: "ALTER TABLE edits ADD COLUMN told INTEGER NOT NULL DEFAULT 1"}


class Journal:
    """The edits of any number of users; their sessions may share one journal, in threads of their own too.

    Args:
        path: the file, made where there is none; None keeps everything in memory.
        sync: ``normal`` loses no acknowledged edit when a process dies, but may lose the last ones when the machine
            loses power; ``full`` waits for the disk at every edit and loses none. Neither leaves half an edit.
        patience: seconds to wait while another process writes.

    Raises:
        UsageError: the file is something else or of a newer schema.
        KgtError: it is damaged, or cannot be written to.
    """

    def __init__(
        self, path: str | Path | None = None, sync: Literal["normal", "full"] = "normal", patience: float = 10.0
    ) -> None:
        self.path = None if path is None else Path(path)
        self._patience = patience
        self._lock = threading.RLock()
        if self.path is not None:
            check_before_writing(self.path)
            make_private(self.path)
        with plain_errors(self._name):
            self._db = sqlite3.connect(
                ":memory:" if self.path is None else self.path,
                timeout=patience,
                isolation_level=None,
                check_same_thread=False,
            )
            weakref.finalize(self, self._db.close)  # a graph that nobody closes
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.execute(f"PRAGMA synchronous = {sync}")
            self._prepare()

    @property
    def _name(self) -> str:
        return "the journal in memory" if self.path is None else str(self.path)

    def _prepare(self) -> None:
        """Check the marks, or make the tables where the file is new."""
        if self._is_new():
            if self.path is not None:
                self._write_ahead()
            with self._transaction():
                if self._is_new():  # and nobody else has made them in the meantime
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id = {JOURNAL.application_id}")
                    self._db.execute(f"PRAGMA user_version = {JOURNAL.schema}")
        if self.path is not None:
            JOURNAL.check(self.path, self._one("PRAGMA application_id"), self._one("PRAGMA user_version"))
            self._upgrade()

    def _upgrade(self) -> None:
        """Bring a file of an earlier schema up to this one."""
        if self._one("PRAGMA user_version") == JOURNAL.schema:
            return
        with self._transaction():
            for schema in range(self._one("PRAGMA user_version"), JOURNAL.schema):
                self._db.execute(_UPGRADES[schema])
            self._db.execute(f"PRAGMA user_version = {JOURNAL.schema}")

    def _is_new(self) -> bool:
        marks = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        return marks == (0, 0) and not self._one("SELECT count(*) FROM sqlite_master")

    def _write_ahead(self) -> None:
        """Switch to WAL; SQLite does not itself wait for another process that is switching at this moment."""
        patience = time.monotonic() + self._patience
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > patience:
                    raise
                time.sleep(0.01)

    def _one(self, sql: str, values: tuple[object, ...] = ()) -> Any:
        return self._db.execute(sql, values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else writes in between, be it a process or a thread with this very journal."""
        with self._lock, plain_errors(self._name):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[Any]:
        with self._lock, plain_errors(self._name):
            return self._db.execute(sql, values).fetchall()

    # Reading

    def users(self) -> list[User]:
        """Everybody with entries, by name."""
        rows = self._rows(
            "SELECT name, count(number), min(time), max(time) FROM users LEFT JOIN edits ON user = id"
            " GROUP BY id ORDER BY name"
        )
        return [User(*row) for row in rows]

    def user_id(self, user: str) -> int | None:
        """The user's id, which is never given to anybody else; None for an unknown user."""
        rows = self._rows("SELECT id FROM users WHERE name = ?", (user,))
        return rows[0][0] if rows else None

    def last(self, user: int) -> int:
        """Number of the user's last entry, 0 where there is none."""
        return int(self._rows("SELECT coalesce(max(number), 0) FROM edits WHERE user = ?", (user,))[0][0])

    def entries(self, user: int, first: int = 1, upto: int = _LAST) -> list[Edit]:
        """The user's entries from number ``first`` to ``upto``, oldest first, those taken back included."""
        rows = self._rows(
            "SELECT number, query, answer, before, after, time, undoes, told, operation, head, relation, tail"
            " FROM edits LEFT JOIN changes USING (user, number)"
            " WHERE user = ? AND number BETWEEN ? AND ? ORDER BY number, position",
            (user, first, upto),
        )
        edits = []
        for (number, query, answer, *rest), listed in groupby(rows, key=lambda row: row[:8]):
            changes = [(row[8], stored_triple(row[9:])) for row in listed if row[8] is not None]
            added, removed = (tuple(z for how, z in changes if how == name) for name in ("add", "remove"))
            edits.append(Edit(number, query, answer, added, removed, *rest))
        return edits

    def undone(self, user: int, upto: int = _LAST) -> set[int]:
        """Numbers of the edits that were taken back by entry ``upto``."""
        return {number for (number,) in self._rows(_UNDONE, {"user": user, "upto": upto})}

    def edit_in_force(self, user: int, number: int | None = None) -> Edit | None:
        """The edit with this number, or the last one; None where it was taken back or there is none."""
        chosen = "" if number is None else " AND number = :number"
        rows = self._rows(
            f"SELECT number FROM edits WHERE user = :user AND undoes IS NULL{chosen}"
            f" AND NOT {_IS_UNDONE.format('edits')} ORDER BY number DESC LIMIT 1",
            {"user": user, "number": number},
        )
        return self.entries(user, rows[0][0], rows[0][0])[0] if rows else None

    def in_force(self, user: int, upto: int = _LAST) -> Iterator[tuple[Triple, Place, bool]]:
        """Every change of the edits in force at entry ``upto``, oldest first: triple, place, whether it adds."""
        rows = self._rows(
            "SELECT number, position, operation = 'add', head, relation, tail FROM changes"
            f" WHERE user = :user AND number <= :upto AND number NOT IN ({_UNDONE}) ORDER BY number, position",
            {"user": user, "upto": upto},
        )
        for number, position, adds, head, relation, tail in rows:
            yield stored_triple((head, relation, tail)), (number, position), bool(adds)

    def states(self, user: int, heads: Iterable[str]) -> dict[Triple, tuple[Place, bool]]:
        """Place of the last change in force of every triple that starts at ``heads``, and whether it adds it."""
        found: dict[Triple, tuple[Place, bool]] = {}
        for head in dict.fromkeys(heads):
            rows = self._rows(
                "SELECT number, position, operation = 'add', relation, tail FROM changes INDEXED BY touched WHERE"
                f" user = :user AND head = :head AND NOT {_IS_UNDONE.format('changes')} ORDER BY number, position",
                {"user": user, "head": head},
            )
            found.update((stored_triple((head, *row[3:])), (row[:2], bool(row[2]))) for row in rows)
        return found

    def queries(self, user: int, head: str) -> dict[int, str]:
        """The queries of the edits that touched triples of ``head``, by number."""
        return dict(
            self._rows(
                "SELECT number, query FROM edits WHERE user = :user AND number IN"
                " (SELECT number FROM changes INDEXED BY touched WHERE user = :user AND head = :head)",
                {"user": user, "head": head},
            )
        )

    # Writing

    @contextmanager
    def writing(self, name: str, user: int | None) -> Iterator[tuple[int, int]]:
        """A transaction on one user's entries; gives the user's id and the number of the last entry.

        Args:
            name: the user, entered where unknown.
            user: the id this user had before, if any.

        Raises:
            KgtError: the user was forgotten since, or the file cannot be written to. Nothing is kept then.
        """
        with self._transaction():
            row = self._db.execute("SELECT id FROM users WHERE name = ?", (name,)).fetchone()
            if user is not None and (row is None or row[0] != user):
                raise KgtError(
                    f"{self._name}: user '{name}' was forgotten meanwhile; open the graph again to start anew"
                )
            if row is None:
                self._db.execute("INSERT INTO users (name) VALUES (?)", (name,))
                row = self._db.execute("SELECT last_insert_rowid()").fetchone()
            yield row[0], self.last(row[0])

    def write(self, user: int, edits: Iterable[Edit]) -> None:
        """Append entries, inside :meth:`writing`."""
        for edit in edits:
            fields = (edit.time, edit.query, edit.answer, edit.before, edit.after, edit.undoes, edit.told)
            self._db.execute("INSERT INTO edits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (user, edit.number, *fields))
            changes = [("add", z) for z in edit.added] + [("remove", z) for z in edit.removed]
            self._db.executemany(
                "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(user, edit.number, position, how, *z) for position, (how, z) in enumerate(changes)],
            )

    def forget(self, user: str) -> None:
        """Remove a user and everything of theirs from the file, bytes included.

        The file is written anew without the rows, because SQLite's pages keep copies of rows they once held.

        Raises:
            UsageError: no such user.
            KgtError: another process is in the way, or the disk is full. The rows may be gone, their bytes may not.
        """
        with self._transaction():
            known = self.user_id(user)
            for table in ("changes", "edits"):
                self._db.execute(f"DELETE FROM {table} WHERE user = ?", (known,))
            self._db.execute("DELETE FROM users WHERE id = ?", (known,))
        try:
            with self._lock, plain_errors(self._name):
                self._db.execute("VACUUM")
                busy = self.path is not None and self._one("PRAGMA wal_checkpoint(TRUNCATE)")
        except KgtError as error:
            raise KgtError(
                f"{error}; until 'forget' has succeeded, bytes of user '{user}' may be in the file"
            ) from error
        if busy:
            raise KgtError(
                f"{self._name}: another process is reading; bytes of user '{user}' may be in the file until 'forget' "
                "has succeeded: repeat it"
            )
        if known is None:
            raise UsageError(f"{self._name}: no user '{user}'")

    def close(self) -> None:
        """Close the file; the write-ahead log goes into it."""
        with plain_errors(self._name):
            self._db.close()
