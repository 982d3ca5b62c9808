"""Whether a write-ahead log has been damaged (SQLite's file format, section 4).

SQLite reads a log up to the first page whose checksum is wrong, and says nothing: that is right after a crash, where
nothing stands behind that page, and hides damage, where whole pages of the same log do.
"""

from __future__ import annotations

import struct
import time
from functools import cache
from pathlib import Path

import numpy as np

from kgt_editor.errors import KgtError

_HEADER, _FRAME = 32, 24
_MAGIC = {0x377F0682: "<u4", 0x377F0683: ">u4"}  # byte order of the words that are summed up
_WORD = np.uint64(0xFFFFFFFF)
# Another process may be writing while the log is read: what is wrong then is right a moment later.
_TRIES, _WAIT = 3, 0.05


def check_log(path: Path) -> None:
    """Look at the log of a journal before it is opened.

    Raises:
        KgtError: a page in its middle is not as it was written, so that what stands behind it would be lost.
    """
    log = path.with_name(path.name + "-wal")
    for left in reversed(range(_TRIES)):
        try:
            content = log.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise KgtError(f"{log}: cannot be read: {error.strerror}") from None
        lost = _lost(content)
        if not lost:
            return
        if left:
            time.sleep(_WAIT)
    raise KgtError(
        f"{log}: damaged, the last {lost} of its pages would be lost; restore it with its journal from a copy, "
        "or delete it to go on without them"
    )


def _lost(log: bytes) -> int:
    """How many pages of the log SQLite would leave out though pages behind the first of them are whole; 0 if none."""
    if len(log) < _HEADER + _FRAME:
        return 0
    magic, _, size, _, *salts = struct.unpack_from(">6I", log)
    frames = (len(log) - _HEADER) // (_FRAME + size) if size else 0
    order = _MAGIC.get(magic)
    if order is None or not 512 <= size <= 65536 or size & (size - 1):
        return max(frames, 1)
    state = _summed(log[:24], order, (0, 0))
    if state != struct.unpack_from(">2I", log, 24):
        return max(frames, 1)
    for number in range(frames):
        start = _HEADER + number * (_FRAME + size)
        state = _summed(log[start : start + 8] + log[start + _FRAME : start + _FRAME + size], order, state)
        if not _same(log, start, salts) or state != struct.unpack_from(">2I", log, start + 16):
            rest = range(number + 1, frames)
            behind = [one for one in rest if _same(log, _HEADER + one * (_FRAME + size), salts)]
            return behind[-1] - number + 1 if behind else 0
    return 0


def _same(log: bytes, start: int, salts: list[int]) -> bool:
    """Whether a page was written in the log's present round; earlier rounds leave theirs behind."""
    return list(struct.unpack_from(">2I", log, start + 8)) == salts


def _summed(content: bytes, order: str, state: tuple[int, int]) -> tuple[int, int]:
    """The checksum behind some bytes, from the one in front of them.

    For each pair of words: a += first + b; b += second + a, modulo 2 ** 32. Written out, every word has a factor.
    """
    words = np.frombuffer(content, order).astype(np.uint64).reshape(-1, 2)
    inner = np.stack([words[:, 0], (words[:, 0] + words[:, 1]) & _WORD])
    factors, whole = _factors(len(words))
    old = np.array(state, dtype=np.uint64)
    # 64 bits hold a product of two words, not a sum of them: each is cut to a word before it is added.
    new = [
        int((((factors[row] * inner) & _WORD).sum() + ((whole[row] * old) & _WORD).sum()) & _WORD) for row in range(2)
    ]
    return new[0], new[1]


@cache
def _factors(pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every pair's two numbers in both results, shape (2, 2, pairs), and of what was there before, shape (2, 2)."""
    step = np.array([[1, 1], [1, 2]], dtype=np.uint64)
    power, found = np.eye(2, dtype=np.uint64), np.zeros((2, 2, pairs), dtype=np.uint64)
    for pair in reversed(range(pairs)):
        found[:, :, pair] = power
        power = (power @ step) & _WORD
    return found, power
