"""The file of a journal: opened, brought up to date, locked while somebody writes."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from kgt_editor.graph import checksums, schema
from kgt_editor.graph.database import JOURNAL, check_before_writing, make_private, plain_errors
from kgt_editor.graph.write_ahead import check_log


class JournalFile:
    """The connection to a journal, which threads may share.

    Args:
        path, sync, patience: as of :class:`~kgt_editor.graph.journal.Journal`.

    Raises:
        As that.
    """

    def __init__(
        self, path: str | Path | None = None, sync: Literal["normal", "full"] = "normal", patience: float = 10.0
    ) -> None:
        self.path = None if path is None else Path(path)
        self._patience = patience
        self._lock = threading.RLock()
        self._names: set[str] = set()  # of the users, when the file was opened
        self._damaged = ""  # which of their rows is damaged
        if self.path is not None:
            check_before_writing(self.path)
            make_private(self.path)
            check_log(self.path)
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
                    for statement in schema.TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id = {JOURNAL.application_id}")
                    self._db.execute(f"PRAGMA user_version = {JOURNAL.schema}")
        if self.path is not None:
            JOURNAL.check(self.path, self._one("PRAGMA application_id"), self._one("PRAGMA user_version"))
            self._upgrade()
            self._names = {name for (name,) in self._rows("SELECT name FROM users NOT INDEXED")}
            self._damaged = next(iter(self._damaged_users()), "")

    def _upgrade(self) -> None:
        """Bring a file of an earlier schema up to this one."""
        if self._one("PRAGMA user_version") == JOURNAL.schema:
            return
        with self._transaction():
            for earlier in range(self._one("PRAGMA user_version"), JOURNAL.schema):
                schema.UPGRADES[earlier](self._db)
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

    def _damaged_users(self) -> list[str]:
        """The rows of users that are not as they were written, in words."""
        return [
            f"the row of a user, now '{name}', is not as it was written"
            for user, name, last, chain, checksum in self._rows("SELECT id, name, last, chain, checksum FROM users")
            if checksum != checksums.of(user, name, last, chain)
        ]

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """What is read within is of one moment, whoever writes meanwhile."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; the write-ahead log goes into it."""
        with plain_errors(self._name):
            self._db.close()
