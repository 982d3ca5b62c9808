"""A personal graph as a file for its owner, and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from kgt_editor.errors import UsageError
from kgt_editor.graph.entry import MOST_TOLD, Edit
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.triple import Triple

FORMAT = "kgt_editor personal graph"
VERSION = 2


def export_json(graph: PersonalGraph) -> str:
    """Everything the journal holds of the user, as JSON; :func:`import_` takes it back without loss."""
    entries = [asdict(entry) for entry in graph.history()]
    document = {"format": FORMAT, "version": VERSION, "user": graph.user, "entries": entries}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def export_ntriples(graph: PersonalGraph) -> str:
    """The user's triples in force as RDF 1.1 N-Triples, for other tools.

    Heads, relations and tails become ``urn:x-kgt:`` names, percent-encoded. What the user took away from the base
    graph has no form in RDF and is left out.
    """
    return "".join(
        f"{_iri('entity', z.head)} {_iri('relation', z.relation)} {_iri('entity', z.tail)} .\n" for z in graph.added
    )


def _iri(kind: str, text: str) -> str:
    return f"<urn:x-kgt:{kind}:{quote(text, safe='')}>"


def import_(graph: PersonalGraph, text: str) -> int:
    """Enter an exported history behind what the graph's journal holds already.

    Args:
        graph: the graph; its user may have another name than the one who exported.
        text: what :func:`export_json` gave.

    Returns:
        the number of entries.

    Raises:
        UsageError: the text is something else or of a newer version; nothing is entered then.
        KgtError: the journal cannot be written to; nothing is entered then.
    """
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']!r}")
        if document["version"] > VERSION:
            raise UsageError(f"export of version {document['version']}, this one reads {VERSION}; update kgt_editor")
        entries = [_entry(values, number) for number, values in enumerate(document["entries"], 1)]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"not an exported personal graph: {type(error).__name__}: {error}") from None
    graph.append(entries)
    return len(entries)


def _entry(values: dict[str, Any], number: int) -> Edit:
    added, removed = (tuple(Triple(*parts) for parts in values[name]) for name in ("added", "removed"))
    entry = Edit(**{**values, "added": added, "removed": removed})  # version 1 has no 'told'
    numbers = (entry.before, entry.after, entry.time)
    if not (
        entry.number == number
        and (entry.undoes is None or 0 < entry.undoes < number)
        and entry.told in range(1, MOST_TOLD + 1)
        and isinstance(entry.query, str)
        and isinstance(entry.answer, str)
        and all(value is None or isinstance(value, (int, float)) for value in numbers)
    ):
        raise ValueError(f"entry {number} is malformed")
    return entry
