"""Where files lie: those that can be made or fetched again, a user's own, and those that come with the package."""

from __future__ import annotations

import os
from pathlib import Path

from kgt_editor.errors import KgtError


def cache_folder() -> Path:
    """``$KGT_EDITOR_CACHE``, else ``kgt_editor`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("KGT_EDITOR_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kgt_editor"


def data_folder() -> Path:
    """Where a user's own data lies: ``kgt_editor`` in ``$XDG_DATA_HOME`` or ``~/.local/share``."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "kgt_editor"


def only_for_owner(path: Path) -> Path:
    """Lets nobody but its owner read a file (mode 0600) or look into a folder (0700), where there are such modes."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    return path


def write_private(path: Path, text: str) -> None:
    """Write what a user told into a file that nobody but its owner can read; one that is there keeps its mode.

    Raises:
        KgtError: it cannot be written.
    """
    try:
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise KgtError(f"{path}: cannot be written: {error.strerror}") from None


def shipped_hparams() -> Path:
    """The YAMLs that come with the package: ``hparams/`` of a checkout, or of the installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "hparams"
    return checkout if (package.parent / "setup.cfg").is_file() else package / "hparams"
