"""The tables of a journal, and how those of earlier versions become them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from kgt_editor.graph import checksums

TABLES = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
    last INTEGER NOT NULL DEFAULT 0, chain INTEGER NOT NULL DEFAULT 0, checksum INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE edits (
    user INTEGER NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL, query TEXT NOT NULL, answer TEXT NOT NULL,
    before REAL, after REAL, undoes INTEGER, told INTEGER NOT NULL DEFAULT 1, checksum INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user, number)
) WITHOUT ROWID;
CREATE INDEX undone ON edits (user, undoes) WHERE undoes IS NOT NULL;
CREATE TABLE changes (
    user INTEGER NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL,
    operation TEXT NOT NULL CHECK (operation IN ('add', 'remove')),
    head TEXT NOT NULL, relation TEXT NOT NULL, tail TEXT NOT NULL, checksum INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user, number, position)
) WITHOUT ROWID;
CREATE INDEX touched ON changes (user, head);
"""


def _told(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE edits ADD COLUMN told INTEGER NOT NULL DEFAULT 1")


def _checksums(db: sqlite3.Connection) -> None:
    for table, columns in (
        ("users", ("last", "chain", "checksum")),
        ("edits", ("checksum",)),
        ("changes", ("checksum",)),
    ):
        for column in columns:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    for user, name in db.execute("SELECT id, name FROM users").fetchall():
        count: dict[int, int] = {}
        for row in db.execute(f"SELECT {checksums.CHANGE_COLUMNS} FROM changes WHERE user = ?", (user,)).fetchall():
            count[row[0]] = count.get(row[0], 0) + 1
            place = (checksums.of(user, *row[:-1]), user, *row[:2])
            db.execute("UPDATE changes SET checksum = ? WHERE user = ? AND number = ? AND position = ?", place)
        last = chain = 0
        entries = f"SELECT {checksums.EDIT_COLUMNS} FROM edits WHERE user = ? ORDER BY number"
        for row in db.execute(entries, (user,)).fetchall():
            last, chain = row[0], checksums.of_edit(user, row[:-1], count.get(row[0], 0), chain)
            db.execute("UPDATE edits SET checksum = ? WHERE user = ? AND number = ?", (chain, user, last))
        close(db, user, name, last, chain)


def close(db: sqlite3.Connection, user: int, name: str, last: int, chain: int) -> None:
    """Write into a user's row which entry is the last, its checksum, and the row's own."""
    checksum = checksums.of(user, name, last, chain)
    db.execute("UPDATE users SET last = ?, chain = ?, checksum = ? WHERE id = ?", (last, chain, checksum, user))


#: What turns a journal of an earlier schema into one of the next.
UPGRADES: dict[int, Callable[[sqlite3.Connection], None]] = {1: _told, 2: _checksums}
