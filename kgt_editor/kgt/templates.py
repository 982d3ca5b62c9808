"""The instruction templates of KGT (paper, section 4.2) and how a triple is written inside them."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass, fields

from kgt_editor.errors import UsageError

SEPARATOR = "<sep>"
NO_FACTS = "none"

_PLACEHOLDERS = {
    "extract": {"K", "e_q", "e_a", "q", "a"},
    "retrieve": {"q", "e_q"},
    "reasoning": {"q", "z"},
    "prefix": {"q", "z"},
}


def render_triple(head: str, relation: str, tail: str) -> str:
    """A triple as the model reads it: ``"Danielle Darrieux has native language French"``."""
    return f"{head} {relation} {tail}"


def render_facts(facts: Iterable[str]) -> str:
    """Several rendered triples as one text; ``"none"`` where there are none."""
    return "; ".join(facts) or NO_FACTS


@dataclass(frozen=True)
class Templates:
    """The four prompts; every field is a format string, the model continues where it ends.

    Attributes:
        extract: T_extract, continued by ``r1 <sep> r2 <sep> ... rK``; needs K, e_q, e_a, q, a.
        retrieve: T_retrieve, continued by a relation; needs q, e_q.
        reasoning: T_reasoning, continued by the answer; needs q, z.
        prefix: T_reasoning with the facts first, so that the query stands last and its own continuation is the
            answer (ours: a caller that hands over prompt and target already joined can be answered); needs q, z.

    The first three are the paper's, word for word, without its [MASK] marks: a causal model does not need them.
    """

    extract: str = (
        "Based on the provided query and answer, identify {K} types of relationships between the subject {e_q} and "
        "the object {e_a}, considering the context of the query and answer. <query>: {q} <answer>: {a} "
        "<subject>: {e_q} <object>: {e_a} <relation>:"
    )
    retrieve: str = "To answer the query: {q}, I need information {e_q}"
    reasoning: str = (
        "Answer the query considering the user's personalized facts. <question>: {q} <facts>: {z} <answer>:"
    )
    prefix: str = "Answer the query considering the user's personalized facts. <facts>: {z} <question>: {q}"

    def __post_init__(self) -> None:
        for field in fields(self):
            text = getattr(self, field.name)
            try:
                found = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
            except ValueError as error:
                raise UsageError(f"template '{field.name}' is not a format string: {error}") from None
            if found != _PLACEHOLDERS[field.name]:
                need = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS[field.name]))
                raise UsageError(f"template '{field.name}' must hold exactly the placeholders {need}: {text!r}")
        if not self.prefix.endswith("{q}"):
            raise UsageError(
                f"template 'prefix' must end with {{q}}, where the caller's own text stands: {self.prefix!r}"
            )
