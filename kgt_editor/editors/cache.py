"""Results of long preparations, kept on disk under the hash of everything they depend on."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kgt_editor.folders import cache_folder


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of every parameter's name, type, shape and bytes, wherever the model lies."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        digest.update(content(parameter))
    return digest.hexdigest()


def content(tensor: Tensor) -> bytes:
    """The tensor's bytes, wherever it lies."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy().tobytes()


def text_hash(*parts: str) -> str:
    """SHA-256 of several texts; moving a boundary between them changes it."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def load(kind: str, key: str) -> dict[str, Tensor] | None:
    """What was saved under ``kind`` and ``key``; None if nothing was or the file is broken."""
    path = _path(kind, key)
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError):
        return None


def save(kind: str, key: str, tensors: dict[str, Tensor]) -> None:
    """Keeps ``tensors``; a reader sees the whole file or none. An unwritable folder costs a warning, not the run."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _write(_path(kind, key), lambda temporary: save_file(content, temporary))


class Unfinished:
    """Long work under way, kept so that a process which dies does not lose it.

    Args:
        kind, key: as of the entry that the work will give.
    """

    def __init__(self, kind: str, key: str) -> None:
        self._file = _path(kind, key).with_suffix(".unfinished")

    def load(self) -> dict[str, Any] | None:
        """What was kept last; None if nothing was or the file is broken."""
        try:
            found: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
            return None
        return found

    def save(self, state: dict[str, Any]) -> None:
        """Keeps a state of tensors, numbers, lists and dictionaries in the last one's place; as :func:`save` does."""
        _write(self._file, lambda temporary: torch.save(state, temporary))

    def drop(self) -> None:
        """The work is done."""
        if self._file.is_file():
            self._file.unlink()


def _write(path: Path, write: Callable[[str], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        os.close(handle)
        try:
            write(temporary)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"cannot keep {path}: {error}; set KGT_EDITOR_CACHE to a writable folder", stacklevel=3)


@contextmanager
def alone(kind: str, key: str) -> Iterator[None]:
    """Holds the entry for one process: what it saves in here, the next one finds when it gets in.

    Waits for as long as another process is in; one that dies is out. Where the folder cannot be written or its file
    system has no locks nobody is kept out, and the same work is done twice.
    """
    path = cache_folder() / "locks" / f"{kind}-{key}.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


def _path(kind: str, key: str) -> Path:
    return cache_folder() / kind / f"{key}.safetensors"
