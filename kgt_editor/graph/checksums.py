"""Checksums of a journal's rows: what has changed on disk is seen before it is believed, and named.

SQLite notices damage to its own structure, not to the texts and numbers in it. Every row has the CRC-32 of its content,
owner included; that of an entry is made of the one before too, and the user's row has the last one, so that an entry
that is gone is missed. It is made against accidents: whoever can write the file can write its checksums.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

#: The columns of :func:`wrong` in their order.
EDIT_COLUMNS = "number, time, query, answer, before, after, undoes, told, checksum"
CHANGE_COLUMNS = "number, position, operation, head, relation, tail, checksum"


def of(*fields: object) -> int:
    """The checksum of a row's fields, as SQLite gives them back."""
    return zlib.crc32(repr(fields).encode())


def of_edit(user: int, row: tuple[Any, ...], changes: int, before: int) -> int:
    """The checksum of an entry.

    Args:
        user: id.
        row: ``EDIT_COLUMNS`` without the checksum.
        changes: how many it has.
        before: the checksum of the entry before, 0 for the first.
    """
    number, time, query, answer, low, high, undoes, told = row
    low, high = (None if value is None else float(value) for value in (low, high))
    return of(user, number, float(time), query, answer, low, high, undoes, told, changes, before)


def _is_of(checksum: object, user: int, row: tuple[Any, ...], changes: int, before: int) -> bool:
    """Whether an entry has this checksum; False where a field is not even of its kind."""
    try:
        return of_edit(user, row, changes, before) == checksum
    except (TypeError, ValueError, OverflowError):
        return False


def wrong(
    user: int, edits: Iterable[Any], changes: Iterable[Any], last: tuple[int, int], after: tuple[int, int] = (0, 0)
) -> Iterator[str]:
    """What is wrong with a user's entries, in words that name each; nothing where all is as it was written.

    Args:
        user: id.
        edits, changes: rows of ``EDIT_COLUMNS`` and ``CHANGE_COLUMNS``, by number.
        last: number and checksum of the last entry, as the user's row has them.
        after: the same of the entry in front of the first row.
    """
    try:
        yield from _compared(user, _numbered(edits), _numbered(changes), last, after)
    except _NoNumberError:
        yield "an entry has no number"


class _NoNumberError(Exception):
    """A row has something else in its number's place: a bit of a row's header can make NULL, or text, of a number."""


def _numbered(rows: Iterable[Any]) -> Iterator[Any]:
    for row in rows:
        if type(row[0]) is not int:
            raise _NoNumberError
        yield row


def _compared(
    user: int, edits: Iterable[Any], changes: Iterator[Any], last: tuple[int, int], after: tuple[int, int]
) -> Iterator[str]:
    """:func:`wrong` of rows that have numbers."""
    change = next(changes, None)
    seen, before = after
    for *fields, checksum in edits:
        number, count, right = fields[0], 0, True
        if number > seen + 1:
            yield f"entry {seen + 1} is missing"
        while change is not None and change[0] <= number:
            if change[0] < number:
                yield f"changes of an entry {change[0]} that is not there"
            else:
                count, right = count + 1, right and of(user, *change[:-1]) == change[-1]
            change = next(changes, None)
        if not right or not _is_of(checksum, user, tuple(fields), count, before):
            yield f"entry {number} is not as it was written"
        seen, before = number, checksum
    if seen != last[0]:
        yield f"its last entry is {seen or 'none'}, and should be {last[0]}"
    elif before != last[1]:
        yield f"entry {seen} is not as it was written"
    if change is not None:
        yield f"changes of an entry {change[0]} that is not there"
