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


def world_book(records: Iterable[Record] = ()) -> FactBook:
    """The world's facts, then those of the CounterFact ``records`` about other subjects that train there.

    The world's own training subjects are few: a model that practises on them alone learns to read contexts about them,
    and not about others.
    """
    whole = world.book()
    more = {
        (record.subject, record.relation): record.target_true
        for record in records
        if record.relation in whole.templates
        and record.subject not in whole.by_subject
        and role(record.subject) == "training"
    }
    return FactBook((*whole.facts, *(Fact(*key, obj) for key, obj in more.items())), whole.templates)


def instructed(book: FactBook) -> frozenset[str]:
    """The subjects that instruction examples may name.

    They are training subjects wherever they occur: in CounterFact and what is made from it, and, where the world knows
    them, there too. So no subject that is edited, asked or chosen on in any of them is among them.
    """
    splits = world.splits()
    elsewhere = {fact.subject for name, facts in splits.items() if name != "training" for fact in facts}
    return frozenset(name for name in book.by_subject if role(name) == "training" and name not in elsewhere)
