"""True facts with the sentences that state them; every choice is made by hashing the fact, so none is random."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from kgt_editor.graph.relations import verbalise

HELD_OUT_TEMPLATES = 2


def stable_hash(*parts: str) -> int:
    """A number below 2**64 that depends on the parts alone, not on the process."""
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:8], "big")


@dataclass(frozen=True, slots=True)
class Fact:
    """A true fact: subject, Wikidata relation ("P103"), object."""

    subject: str
    relation: str
    object: str

    @property
    def phrase(self) -> str:
        """The relation in words, as it stands in a triple."""
        return verbalise(self.relation)

    def rank(self, purpose: str) -> int:
        """A fixed pseudo-random number of this fact, another one for each purpose."""
        return stable_hash(purpose, self.subject, self.relation, self.object)


class FactBook:
    """Facts and, for every relation, sentences with ``{}`` for the subject, each ending where the object follows.

    Args:
        facts: in the order to keep.
        templates: relation -> its sentences; more than ``HELD_OUT_TEMPLATES`` of them.
    """

    def __init__(self, facts: Iterable[Fact], templates: Mapping[str, Sequence[str]]) -> None:
        self.facts = tuple(facts)
        self.templates = {relation: tuple(sentences) for relation, sentences in templates.items()}

    @cached_property
    def objects(self) -> dict[str, tuple[str, ...]]:
        """Relation -> its distinct objects, sorted."""
        found: dict[str, set[str]] = defaultdict(set)
        for fact in self.facts:
            found[fact.relation].add(fact.object)
        return {relation: tuple(sorted(names)) for relation, names in found.items()}

    @cached_property
    def by_subject(self) -> dict[str, tuple[Fact, ...]]:
        """Subject -> its facts."""
        found: dict[str, list[Fact]] = defaultdict(list)
        for fact in self.facts:
            found[fact.subject].append(fact)
        return {subject: tuple(listed) for subject, listed in found.items()}

    def template_order(self, fact: Fact) -> list[str]:
        """The relation's sentences in this fact's own order: the edit prompt first, the two held out last."""
        return sorted(self.templates[fact.relation], key=lambda sentence: fact.rank(sentence))

    def trained_templates(self, fact: Fact) -> list[str]:
        """The sentences the models are trained on for this fact."""
        return self.template_order(fact)[:-HELD_OUT_TEMPLATES]

    def held_out_templates(self, fact: Fact) -> list[str]:
        """The sentences the models never see with this fact; they are its paraphrase prompts."""
        return self.template_order(fact)[-HELD_OUT_TEMPLATES:]

    def prompt(self, fact: Fact) -> str:
        """The edit prompt, with ``{}`` for the subject."""
        return self.template_order(fact)[0]

    def counterfactual_object(self, fact: Fact) -> str:
        """Another object of the same relation, not true of the subject under any relation of the book."""
        true = {other.object for other in self.by_subject[fact.subject]}
        choices = [name for name in self.objects[fact.relation] if name not in true]
        return choices[fact.rank("target_new") % len(choices)]
