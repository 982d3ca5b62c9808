"""What the commands have in common in which one person talks to a language model: whose facts, and where they are."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgt_editor import commands
from kgt_editor.folders import data_folder, only_for_owner

if TYPE_CHECKING:
    from kgt_editor.talk.model import PersonalModel


def add_person(add: Callable[..., Any], several: bool = False) -> None:
    """Adds the options that :func:`open_person` reads, with a parser's ``add``; of ``several`` people, if so."""
    add("--model", default="smollm2-135m", help="as for compare.py (default: %(default)s)")
    if several:
        add("--user", action="append", help="whose facts these are; may be given more than once (default: user)")
    else:
        add("--user", default="user", help="whose facts these are (default: %(default)s)")
    add("--journal", type=Path, metavar="FILE", help="where they are kept (default: journal.db in the data folder)")
    add("--graph", metavar="world|none|FILE", help="base graph (default: what the hyperparameters say)")
    add(
        "--tokens", type=commands.positive, default=64, metavar="N", help="of an answer, at most (default: %(default)s)"
    )
    commands.add_placement(add)
    add("--debug", action="store_true", help="show tracebacks")


def journal_of(options: argparse.Namespace) -> Path:
    """The journal that was named, else the one of the data folder, which is made for its owner alone."""
    journal: Path | None = options.journal
    if journal is None:
        folder = data_folder()
        if not folder.is_dir():
            folder.mkdir(parents=True)
            only_for_owner(folder)
        journal = folder / "journal.db"
    return journal


def open_person(options: argparse.Namespace, journal: Path, user: str) -> PersonalModel:
    """A user's side of the model; where it is not loaded yet, that takes some seconds."""
    from transformers.utils.logging import disable_progress_bar

    from kgt_editor.talk.model import PersonalModel

    disable_progress_bar()
    return PersonalModel(options.model, user, journal, graph=options.graph, device=options.device, dtype=options.dtype)
