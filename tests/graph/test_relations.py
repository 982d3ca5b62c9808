"""Relations in words."""

from __future__ import annotations

import pytest

from kgt_editor.graph.relations import CONCEPTNET_PHRASES, WIKIDATA_PHRASES, verbalise


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("/r/AtLocation", "is located at"),
        ("AtLocation", "is located at"),
        ("/r/AtLocation/", "is located at"),
        ("P103(native language)", "has native language"),
        ("P103", "has native language"),
        ("has native language", "has native language"),
        ("P99999(chess title)", "chess title"),
        ("/r/dbpedia/genre", "genre"),
        ("/r/dbpedia/knownFor", "known for"),
        ("/r/BrandNewRelation", "brand new relation"),
        ("works_in", "works in"),
        ("ate", "ate"),
    ],
)
def test_a_relation_becomes_a_phrase(label: str, phrase: str) -> None:
    assert verbalise(label) == phrase


def test_phrases_stay_as_they_are() -> None:
    for phrase in (*CONCEPTNET_PHRASES.values(), *WIKIDATA_PHRASES.values()):
        assert verbalise(phrase) == phrase
