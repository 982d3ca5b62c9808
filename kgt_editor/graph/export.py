"""A personal graph as a file for its owner, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kgt_editor.errors import UsageError
from kgt_editor.graph.entry import MOST_TOLD, Edit
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.triple import Triple

FORMAT = "kgt_editor personal graph"
VERSION = 2
_LATEST = 253_402_300_799  # 9999-12-31, the last day that a date can be written of


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
    entries = [_edit(entry) for entry in _read(text).entries]
    try:
        _check_order(entries)
    except ValueError as error:
        raise UsageError(f"not an exported personal graph: {error}") from None
    graph.append(entries)
    return len(entries)


_Parts = tuple[str, str, str]


class _Entry(BaseModel):
    """One entry as a file has it: what a journal can hold, and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")

    number: int
    query: str
    answer: str
    added: tuple[_Parts, ...]
    removed: tuple[_Parts, ...]
    before: float | None = Field(ge=0, allow_inf_nan=False)
    after: float | None = Field(ge=0, allow_inf_nan=False)
    time: float = Field(ge=0, le=_LATEST)
    undoes: int | None
    told: int = Field(default=1, ge=1, le=MOST_TOLD)  # version 1 has none


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["kgt_editor personal graph"]
    version: int
    user: str
    entries: tuple[_Entry, ...]


def _read(text: str) -> _Document:
    try:
        loose = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not an exported personal graph: {error}") from None
    version = loose.get("version") if isinstance(loose, dict) and loose.get("format") == FORMAT else None
    if isinstance(version, int) and version > VERSION:
        raise UsageError(f"export of version {version}, this one reads {VERSION}; update kgt_editor")
    try:
        return _Document.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"not an exported personal graph: {place}: {first['msg']}") from None


def _edit(entry: _Entry) -> Edit:
    added, removed = (tuple(Triple(*parts) for parts in listed) for listed in (entry.added, entry.removed))
    return Edit(**{**entry.model_dump(), "added": added, "removed": removed})


def _check_order(entries: Sequence[Edit]) -> None:
    """Numbers count from 1, and what is taken back was an edit in force.

    Raises:
        ValueError: which entry is not so.
    """
    in_force = set()
    for number, entry in enumerate(entries, 1):
        if entry.number != number:
            raise ValueError(f"entry {number} has the number {entry.number}")
        if entry.undoes is None:
            in_force.add(number)
        elif entry.undoes not in in_force or entry.added or entry.removed:
            raise ValueError(f"entry {number} takes back {entry.undoes}, which it cannot")
        else:
            in_force.remove(entry.undoes)
