"""What users told their graphs, in one SQLite file for all of them.

Entries are only ever appended: taking an edit back is an entry too. So any earlier state can be made again, and
nothing but :meth:`Journal.forget` removes a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph import checksums, schema
from kgt_editor.graph.database import plain_errors
from kgt_editor.graph.entry import Edit, Place, User
from kgt_editor.graph.journal_file import JournalFile
from kgt_editor.graph.triple import Triple, stored_triple

#: Numbers of the edits that were taken back, at the moment of entry :upto.
_UNDONE = "SELECT undoes FROM edits INDEXED BY undone WHERE user = :user AND undoes IS NOT NULL AND number <= :upto"
#: Whether the edit of a row was taken back.
_IS_UNDONE = "EXISTS (SELECT 1 FROM edits AS later WHERE later.user = :user AND later.undoes = {}.number)"
_LAST = 1 << 62
_FROM_A_COPY = "; restore the file from a copy"


class Journal(JournalFile):
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

    # Reading

    def users(self) -> list[User]:
        """Everybody with entries, by name."""
        rows = self._rows(
            "SELECT name, count(number), min(time), max(time) FROM users LEFT JOIN edits ON user = id"
            " GROUP BY id ORDER BY name"
        )
        return [User(*row) for row in rows]

    def user_id(self, user: str) -> int | None:
        """The user's id, which is never given to anybody else; None for an unknown user.

        Raises:
            KgtError: the user's row is damaged, or one that is damaged may be theirs.
        """
        rows = self._rows("SELECT id, last, chain, checksum FROM users WHERE name = ?", (user,))
        if not rows:
            if not self._damaged and user in self._names:  # unless somebody has forgotten them, their row is there
                there = self._rows("SELECT name FROM users NOT INDEXED")
                self._damaged = "the index of users is damaged" if (user,) in there else ""
                self._names = {name for (name,) in there}
            if self._damaged:
                raise KgtError(f"{self._name}: {self._damaged}{_FROM_A_COPY}")
            return None
        number, last, chain, checksum = rows[0]
        if checksum != checksums.of(number, user, last, chain):
            raise KgtError(f"{self._name}: the row of user '{user}' is not as it was written{_FROM_A_COPY}")
        return int(number)

    def check(self, user: int, after: int = 0) -> None:
        """Compare a user's entries behind number ``after`` with their checksums.

        Raises:
            KgtError: names the first that is not as it was written.
        """
        if self.path is not None and (found := self.wrong(user, after)):
            name = self._rows("SELECT name FROM users WHERE id = ?", (user,))[0][0]
            raise KgtError(f"{self._name}: user '{name}': {found[0]}{_FROM_A_COPY}; other users can be read")

    def wrong(self, user: int, after: int = 0) -> list[str]:
        """What is wrong with a user's entries behind number ``after``; see :func:`.checksums.wrong`."""
        with self._lock, plain_errors(self._name), self._one_moment():
            (last,) = self._rows("SELECT last, chain FROM users WHERE id = ?", (user,)) or [(0, 0)]
            asked = {"user": user, "after": after}
            place = "FROM {} WHERE user = :user AND number > :after ORDER BY number"
            before = self._rows("SELECT checksum FROM edits WHERE user = :user AND number = :after", asked) or [(0,)]
            edits = self._db.execute(f"SELECT {checksums.EDIT_COLUMNS} {place.format('edits')}", asked)
            changes = self._db.execute(f"SELECT {checksums.CHANGE_COLUMNS} {place.format('changes')}, position", asked)
            found = list(checksums.wrong(user, edits, changes, last, (after, before[0][0])))
            undoes = self._rows(
                "SELECT undoes FROM edits NOT INDEXED WHERE user = :user AND number > :after AND undoes IS NOT NULL",
                asked,
            )
            taken_back, listed = {row[0] for row in undoes}, self.undone(user)
            if not taken_back <= listed or (not after and taken_back != listed):
                found.append("the index of what was taken back is damaged")
            return found

    def verify(self) -> list[str]:
        """Everything in the file that is not as it was written, in words; reads all of it."""
        found = [] if (whole := self._rows("PRAGMA integrity_check")) == [("ok",)] else [row[0] for row in whole]
        found += self._damaged_users()
        for user, name in self._rows("SELECT id, name FROM users"):
            found += [f"user '{name}': {text}" for text in self.wrong(user)]
        return found

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
                schema.close(self._db, row[0], name, 0, 0)
            yield row[0], self.last(row[0])

    def write(self, user: int, edits: Iterable[Edit]) -> None:
        """Append entries, inside :meth:`writing`."""
        name, last, chain = self._db.execute("SELECT name, last, chain FROM users WHERE id = ?", (user,)).fetchone()
        for edit in edits:
            fields = (edit.number, edit.time, edit.query, edit.answer, edit.before, edit.after, edit.undoes, edit.told)
            changes = [("add", z) for z in edit.added] + [("remove", z) for z in edit.removed]
            last, chain = edit.number, checksums.of_edit(user, fields, len(changes), chain)
            self._db.execute("INSERT INTO edits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (user, *fields, chain))
            rows = [(user, edit.number, position, how, *z) for position, (how, z) in enumerate(changes)]
            self._db.executemany(
                "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [(*row, checksums.of(*row)) for row in rows]
            )
        schema.close(self._db, user, name, last, chain)

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
        self._names.discard(user)
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
