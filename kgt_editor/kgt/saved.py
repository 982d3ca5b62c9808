"""A personal model in a folder, as adapters are kept: which language model it is of, its settings, the user's graph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.replay import replay
from kgt_editor.graph.store import Graph
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.hparams import KGTHyperParams

CONFIG = "kgt_config.json"
GRAPH = "graph.db"


@dataclass(frozen=True)
class Saved:
    """What is in the folder.

    Attributes:
        model_name: what the language model was loaded from.
        hparams: the settings.
        graph: the user's, in memory.
    """

    model_name: str
    hparams: KGTHyperParams
    graph: PersonalGraph


def write(folder: Path, saved: Saved) -> None:
    """Write it, for its owner's eyes alone; what was there is replaced.

    Raises:
        KgtError: it cannot be written.
    """
    content = {
        "method": "KGT",
        "base_model_name_or_path": saved.model_name,
        "user": saved.graph.user,
        "hparams": saved.hparams.model_dump(mode="json"),
    }
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise KgtError(f"{folder}: cannot be written: {error.strerror or error}") from None
    saved.graph.save(folder / GRAPH)


def read(folder: Path) -> Saved:
    """Read what :func:`write` has written.

    Raises:
        UsageError: no such folder, something else in it, or settings of another version.
        KgtError: the graph is damaged.
    """
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name, user, values = content["base_model_name_or_path"], content["user"], content["hparams"]
        if not (isinstance(name, str) and isinstance(user, str) and isinstance(values, dict)):
            raise TypeError
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a folder that save_pretrained has written") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{path}: is not what save_pretrained writes; save the model again") from None
    hparams = KGTHyperParams.build(values, str(path))
    graph = read_graph(folder / GRAPH, base_graph(hparams.graph))
    if graph.user != user:
        raise UsageError(f"{folder}: {CONFIG} is of user '{user}', {GRAPH} of '{graph.user}'; save the model again")
    return Saved(name, hparams, graph)


def read_graph(path: Path, base: Graph) -> PersonalGraph:
    """The graph of the one user of a journal, in memory.

    Raises:
        UsageError: no such file, or it is no journal.
        KgtError: it is damaged, or of several users.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; save the model again")
    journal = Journal(path)
    try:
        users = [user.name for user in journal.users()]
        if len(users) != 1:
            raise KgtError(f"{path}: the graph of one user should be there, not of {len(users)}")
        graph = PersonalGraph(base, user=users[0])
        replay(PersonalGraph(base, journal, users[0]).history(), graph)
    finally:
        journal.close()
    return graph
