"""What follows from a triple without being stored: inverse and symmetric relations, by the table ``consequences.yaml``.

"Ada Brun is married to Milo Castrel" says whom Milo Castrel is married to, too. Other names of an entity (aliases) are
found by the linker, see :mod:`kgt_editor.graph.names`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.resources import files

import yaml

from kgt_editor.graph.names import HeadIndex
from kgt_editor.graph.relations import ALIAS
from kgt_editor.graph.triple import MAX_CHARACTERS, Triple

# "The job of the mother of …", "the job of …'s mother", "…'s mother's job": the tail is another's, not the head's.
_CHAIN = re.compile(r"(?<!\bname )(?<!\bnames )\bof (the \w+ of\b|…'s\b)|…'s \w+'s (?!name\b)", re.IGNORECASE)


@cache
def _rules() -> tuple[tuple[re.Pattern[str], str], ...]:
    text = files("kgt_editor.graph").joinpath("consequences.yaml").read_text(encoding="utf-8")
    rules = []
    for words, phrase in yaml.safe_load(text).items():
        listed = "|".join(map(_pattern, words.split("|")))
        rules.append((re.compile(listed, re.IGNORECASE), phrase))
    return tuple(rules)


def _pattern(words: str) -> str:
    whole = words.startswith("=")
    text = re.escape(words.removeprefix("=").strip())
    return rf"^{text}$" if whole else rf"(?<!\w){text}(?!\w)"


@lru_cache(maxsize=100_000)
def inverse_of(relation: str) -> str | None:
    """The relation in which a triple's tail stands to its head; None where the table has none.

    A relation of a relation ("the job of …'s mother") has none.
    """
    if relation == ALIAS or _CHAIN.search(relation):
        return None
    return next((phrase for words, phrase in _rules() if words.search(relation)), None)


class Consequences:
    """The triples that follow from others, by the head that they have.

    Args:
        triples: those that are there.

    Attributes:
        head_index: the names of their heads.
    """

    def __init__(self, triples: Iterable[Triple] = ()) -> None:
        self._by_head: dict[str, dict[Triple, Triple]] = {}
        self.head_index = HeadIndex()
        for triple in triples:
            self.settle(triple, True)

    def of(self, head: str) -> dict[Triple, Triple]:
        """What follows about ``head``, each with the triple that it follows from; the latest last."""
        return self._by_head.get(head, {})

    def settle(self, triple: Triple, there: bool) -> None:
        """A triple has come or gone."""
        head, relation, tail = triple
        inverse = inverse_of(relation)
        if inverse is None or len(inverse) > MAX_CHARACTERS:
            return
        follows = Triple(tail, inverse, head)
        known = self._by_head.setdefault(tail, {})
        known.pop(follows, None)
        if there:
            known[follows] = triple
            self.head_index.add(tail)
        elif not known:
            del self._by_head[tail]
            self.head_index.discard(tail)
