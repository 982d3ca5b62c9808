"""Making a graph's edits once more, in another graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kgt_editor.graph.entry import Edit
from kgt_editor.graph.personal import PersonalGraph


def replay(entries: Iterable[Edit], graph: PersonalGraph) -> None:
    """Make a user's edits in ``graph``, one after the other, as they were made and with their times.

    Unlike :meth:`PersonalGraph.append` it leaves nothing to the order in which a journal is read: what is listed stands
    in the order in which it was added.

    Raises:
        KgtError: the journal cannot be written to.
    """
    for edit in entries:
        if edit.undoes is not None:
            graph.undo(edit.undoes, when=edit.time)
        else:
            numbers: dict[str, Any] = {"before": edit.before, "after": edit.after, "told": edit.told, "when": edit.time}
            graph.commit(edit.query, edit.answer, edit.added, edit.removed, **numbers)
