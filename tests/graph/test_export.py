"""A user's graph as a file, and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kgt_editor.errors import UsageError
from kgt_editor.graph.export import export_json, export_ntriples, import_
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple

MEAT, FISH = Triple("dog", "likes", "meat"), Triple("dog", "likes", 'fish & "chips" 犬>')
BASE = MemoryGraph([MEAT])


def graph() -> PersonalGraph:
    made = PersonalGraph(BASE, user="ada")
    made.commit("q", "fish", [FISH], [MEAT], before=0.1, after=0.9, told=2)
    made.add(Triple("cat", "likes", "milk"))
    made.undo()
    return made


def test_an_export_of_the_first_version_can_be_read() -> None:
    document = json.loads(export_json(graph()))
    for entry in document["entries"]:
        del entry["told"]
    other = PersonalGraph(BASE)
    assert import_(other, json.dumps({**document, "version": 1})) == 3
    assert [entry.told for entry in other.history()] == [1, 1, 1]


def test_what_is_exported_can_be_imported_elsewhere(tmp_path: Path) -> None:
    made = graph()
    other = PersonalGraph(BASE, Journal(tmp_path / "journal.db"), "bob")
    assert import_(other, export_json(made)) == 3
    assert other.history() == made.history()
    assert other.triples_from("dog") == made.triples_from("dog") == [FISH]
    again = PersonalGraph(BASE, Journal(tmp_path / "journal.db"), "bob")
    assert again.history() == made.history()


def test_an_import_goes_behind_what_is_there() -> None:
    other = PersonalGraph(BASE)
    first = other.add(Triple("dog", "likes", "bones"))
    import_(other, export_json(graph()))
    assert [(entry.number, entry.undoes) for entry in other.history()] == [(1, None), (2, None), (3, None), (4, 3)]
    assert other.triples_from("dog") == [Triple("dog", "likes", "bones"), FISH]
    assert other.triples_from("cat") == []
    other.undo(2)
    assert other.triples_from("dog") == [MEAT, Triple("dog", "likes", "bones")]
    assert other.journal == [first]


def test_ntriples_are_well_formed() -> None:
    (line,) = export_ntriples(graph()).splitlines()
    assert re.fullmatch(r"(<urn:x-kgt:(entity|relation):[A-Za-z0-9%._~-]+> ){3}\.", line)
    assert line.startswith("<urn:x-kgt:entity:dog> <urn:x-kgt:relation:likes> <urn:x-kgt:entity:fish%20%26%20")


def change(**values: Any) -> str:
    document = json.loads(export_json(graph()))
    document["entries"][1].update(values)
    return json.dumps(document)


def both(place: int, **values: Any) -> str:
    document = json.loads(export_json(graph()))
    document["entries"][place].update(values)
    document["entries"].append({**document["entries"][place], "number": 4})  # the same taken back twice
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "something else"}',
        export_json(graph())[:-20],
        change(number=7),
        change(undoes=2),
        change(query=1),
        change(before="much"),
        change(added=[["dog", "likes"]]),
        change(added=[["dog", "likes", ""]]),
        change(added=[["dog", "likes", "\ud800"]]),
        change(colour="red"),
        change(time=float("inf")),
        change(time=1e300),
        change(time=-1.0),
        change(after=float("nan")),
        change(told=0),
        change(told=1000),
        change(undoes=3),
        change(number=True),
        change(added=[["dog", "likes", 3]]),
        export_json(graph()).replace('"before": 0.1', '"before": ' + "9" * 5000),
        export_json(graph()).replace('"undoes": 2', '"undoes": 1' + "0" * 400),
        "[" * 100_000,
        '{"format": "kgt_editor personal graph", "version": 2, "user": "ada", "entries": ' + "[" * 100_000,
        both(2, undoes=2, added=[["dog", "likes", "bones"]]),
        both(2, undoes=1, number=3),
        export_json(graph()).replace('"version": 2', '"version": 3'),
    ],
)
def test_anything_else_is_refused_and_nothing_entered(text: str) -> None:
    other = PersonalGraph(BASE)
    with pytest.raises(UsageError):
        import_(other, text)
    assert other.history() == []
    assert other.triples_from("dog") == [MEAT]
