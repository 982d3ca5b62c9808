"""The checksum at the end of a base graph's file, compared whenever the file is opened.

A base graph never changes once it is built, so one CRC-32 of all its bytes says whether it is as it was: a bit that
flips in a text would be believed, one in SQLite's tree would hide facts without a word. Reading 100 MB for it takes a
tenth of a second. SQLite reads as many pages as its header says, and not what stands behind them. Made against
accidents: whoever can write the file can write its checksum.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from kgt_editor.errors import KgtError

_MARK = b"KGT base graph, crc32 "
_LENGTH = len(_MARK) + 4
_AT_ONCE = 1 << 22


def seal(path: Path) -> None:
    """Add the checksum to a file that has none."""
    checksum = _checksum(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(_MARK + checksum.to_bytes(4, "big"))


def check_seal(path: Path) -> None:
    """Compare a file with its checksum.

    Raises:
        KgtError: it is not as it was built.
    """
    try:
        size = path.stat().st_size - _LENGTH
        with path.open("rb") as file:
            file.seek(max(size, 0))
            found = file.read()
        right = found == _MARK + _checksum(path, size).to_bytes(4, "big")
    except OSError as error:
        raise KgtError(f"{path}: cannot be read: {error.strerror}") from None
    if not right:
        raise KgtError(f"{path}: not as it was built: the file is damaged; build it again or restore it from a copy")


def _checksum(path: Path, size: int) -> int:
    """CRC-32 of the first ``size`` bytes."""
    value = 0
    with path.open("rb") as file:
        while size > 0 and (part := file.read(min(size, _AT_ONCE))):
            value = zlib.crc32(part, value)
            size -= len(part)
    return value
