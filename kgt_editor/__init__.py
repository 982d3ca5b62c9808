"""Knowledge Graph Tuning as a model editor.

The names below are imported when they are first asked for: some need seconds for torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kgt_editor.editors.base import create_editor, restore_model
    from kgt_editor.graph.journal import Journal
    from kgt_editor.graph.personal import PersonalGraph
    from kgt_editor.graph.store import open_graph
    from kgt_editor.graph.triple import Triple
    from kgt_editor.lm.loading import load_model
    from kgt_editor.requests import EditRequest
    from kgt_editor.talk.model import PersonalModel

__all__ = [
    "EditRequest",
    "Journal",
    "PersonalGraph",
    "PersonalModel",
    "Triple",
    "create_editor",
    "load_model",
    "open_graph",
    "register_with_easyedit",
    "restore_model",
]

_PLACES = {
    "EditRequest": "requests",
    "Journal": "graph.journal",
    "PersonalGraph": "graph.personal",
    "PersonalModel": "talk.model",
    "Triple": "graph.triple",
    "create_editor": "editors.base",
    "load_model": "lm.loading",
    "open_graph": "graph.store",
    "restore_model": "editors.base",
}

try:
    __version__ = version("kgt_editor")
except PackageNotFoundError:  # a checkout on the path
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'kgt_editor' has no attribute '{name}'")
    return getattr(import_module(f"kgt_editor.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def register_with_easyedit() -> None:
    """Makes KGT one of EasyEdit's methods; the same as ``import kgt_editor.easyedit``, whose errors it raises."""
    from kgt_editor import easyedit

    easyedit.register()
