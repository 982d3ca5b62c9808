"""One process a folder: who comes second is told who is there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kgt_editor.errors import KgtError

LOCK, HOLDER = ".lock", ".holder.json"


class InUseError(KgtError):
    """Another process works on the folder."""


@contextmanager
def held(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock on a folder; the system takes it back when the process ends, however that ends.

    Args:
        patience: seconds to wait for the one who holds it.

    Raises:
        InUseError: names the holder's process and machine, where they are known.
    """
    lock, holder = FileLock(folder / LOCK), folder / HOLDER
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise InUseError(f"{folder} is in use by {_told(holder)}: wait for it, end it, or give another --out") from None
    try:
        # Who holds it is a courtesy: a full disk must not keep a run from being read.
        with suppress(OSError):
            holder.write_text(json.dumps({"process": os.getpid(), "machine": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    try:
        owner = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {owner['process']} on {owner['machine']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
