"""What the testbed models are taught, and which subjects their instruction examples may name."""

from __future__ import annotations

from collections.abc import Iterable

from kgt_editor.data import extension, world
from kgt_editor.data.counterfact import role
from kgt_editor.data.extension import SourceFact
from kgt_editor.data.factbook import Fact, FactBook
from kgt_editor.data.record import Record
from kgt_editor.graph.relations import WIKIDATA_PHRASES


def counterfact_book(records: Iterable[Record], more: Iterable[SourceFact] = ()) -> FactBook:
    """The true facts of ``records``, then ``more``, with our own sentences.

    A subject has one object for a relation, the first that is named: greedy decoding gives no second one. Relations
    that KGT has no words for are left out.

    Args:
        records: of CounterFact, in a layout that names the relations.
        more: see :func:`kgt_editor.data.extension.read_facts`.
    """
    listed = [(record.subject, record.relation, record.target_true) for record in records]
    listed += [(fact.subject, fact.relation, fact.object) for fact in more]
    templates = {
        relation: (*own.questions, *own.generation)
        for relation, own in extension.sentences().items()
        if relation in WIKIDATA_PHRASES
    } | world.book().templates
    first: dict[tuple[str, str], str] = {}
    for subject, relation, obj in listed:
        if relation in templates:
            first.setdefault((subject, relation), obj)
    return FactBook((Fact(subject, relation, obj) for (subject, relation), obj in first.items()), templates)


def world_instructed() -> frozenset[str]:
    """The subjects of the world's training records: no subject that is edited, asked or chosen on elsewhere."""
    return frozenset(fact.subject for fact in world.splits()["training"])


def counterfact_instructed(book: FactBook) -> frozenset[str]:
    """The subjects whose records are training records in CounterFact and CounterFactExtension."""
    return frozenset(subject for subject in book.by_subject if role(subject) == "training")
