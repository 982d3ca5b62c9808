"""What a testbed model has to be able to do, measured.

Every ability is a share of facts in 0..1 on which the greedy answer is right. The facts in the contexts are drawn
anew from ``seed``; the counterfactual tails are the data set's. ``held_out`` questions use the two sentences that
the model never saw with the fact, in any form.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from kgt_editor.data.factbook import HELD_OUT_TEMPLATES, Fact, FactBook
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.kgt.templates import SEPARATOR, Templates, render_facts, render_triple
from kgt_editor.lm.scoring import score_targets

Note = Callable[[str], None]
TEMPLATES = Templates()

# Ability -> least share, for a model that is fit to be shipped.
REQUIRED = {
    "recall_trained": 0.99, "recall_held_out": 0.95, "follows_reasoning": 0.97, "follows_prefix": 0.97,
    "follows_reasoning_held_out": 0.97, "follows_prefix_held_out": 0.97,
    "irrelevant_fact": 0.90, "irrelevant_fact_prefix": 0.90,
    **{f"several_{count}_{whose}": 0.90 for count in (2, 4, 8) for whose in ("same", "others")},
    **{f"others_only_{count}": 0.90 for count in (1, 2, 4, 8)},
    "retrieves_relation": 0.95, "extracts_relation": 0.95, "extracts_five": 0.95,
}  # fmt: skip
# The large model holds ten times the facts in blocks of the same size.
REQUIRED_LARGE = REQUIRED | {"recall_trained": 0.95, "recall_held_out": 0.85}
MOST_NO_EDIT_EFFICACY = 0.05


def _ask(fact: Fact, sentence: str) -> str:
    return sentence.replace("{}", fact.subject)


class _Contexts:
    """Draws facts to put beside a question."""

    def __init__(self, book: FactBook, seed: int) -> None:
        self.random = random.Random(seed)
        self.objects = book.objects
        self.relations = sorted(book.objects)
        self.all = book.facts

    def same_subject(self, fact: Fact, count: int) -> list[str]:
        """Made-up facts of the subject under other relations."""
        others = self.random.sample([r for r in self.relations if r != fact.relation], count)
        return [render_triple(fact.subject, WIKIDATA_PHRASES[r], self.random.choice(self.objects[r])) for r in others]

    def other_subjects(self, fact: Fact, count: int) -> list[str]:
        """Made-up facts of other subjects, half of them under the relation asked for."""
        found: list[str] = []
        while len(found) < count:
            other = self.random.choice(self.all)
            relation = fact.relation if self.random.random() < 0.5 else other.relation
            if other.subject != fact.subject:
                tail = self.random.choice(self.objects[relation])
                found.append(render_triple(other.subject, WIKIDATA_PHRASES[relation], tail))
        return found

    def insert(self, facts: list[str], relevant: str) -> list[str]:
        """The facts with the relevant one at a random place."""
        place = self.random.randrange(len(facts) + 1)
        return [*facts[:place], relevant, *facts[place:]]


def _questions(book: FactBook, facts: Sequence[Fact], seed: int) -> dict[str, tuple[list[str], list[str]]]:
    """Ability -> prompts and the answers they should get."""
    contexts = _Contexts(book, seed)
    new = book.counterfactual_object
    asked: dict[str, tuple[list[str], list[str]]] = {}

    def ask(name: str, make: Callable[[Fact], str], answer: Callable[[Fact], str]) -> None:
        asked[name] = ([make(fact) for fact in facts], [answer(fact) for fact in facts])

    def reasoning(template: str, sentence: Callable[[Fact], str], z: Callable[[Fact], list[str]]) -> Any:
        return lambda fact: template.format(q=_ask(fact, sentence(fact)), z=render_facts(z(fact)))

    def true(fact: Fact) -> str:
        return fact.object

    def relevant(fact: Fact) -> str:
        return render_triple(fact.subject, fact.phrase, new(fact))

    def trained(fact: Fact) -> str:
        return contexts.random.choice(book.trained_templates(fact))

    def held_out(fact: Fact) -> str:
        return contexts.random.choice(book.held_out_templates(fact))

    ask("recall_trained", lambda fact: _ask(fact, trained(fact)), true)
    for index in range(HELD_OUT_TEMPLATES):

        def other_wording(fact: Fact, index: int = index) -> str:
            return _ask(fact, book.held_out_templates(fact)[index])

        ask(f"recall_held_out {index}", other_wording, true)
    for name, template in (("reasoning", TEMPLATES.reasoning), ("prefix", TEMPLATES.prefix)):
        ask(f"follows_{name}", reasoning(template, book.prompt, lambda f: [relevant(f)]), new)
        ask(f"follows_{name}_held_out", reasoning(template, held_out, lambda f: [relevant(f)]), new)
    for name, template in (("", TEMPLATES.reasoning), ("_prefix", TEMPLATES.prefix)):
        ask(f"irrelevant_fact{name}", reasoning(template, trained, lambda f: contexts.same_subject(f, 1)), true)
    for whose, draw in (("same", contexts.same_subject), ("others", contexts.other_subjects)):
        for count in (2, 4, 8):

            def several(fact: Fact, draw: Any = draw, count: int = count) -> list[str]:
                return contexts.insert(draw(fact, count - 1), relevant(fact))

            ask(f"several_{count}_{whose}", reasoning(TEMPLATES.reasoning, trained, several), new)
    for count in (1, 2, 4, 8):

        def others_only(fact: Fact, count: int = count) -> list[str]:
            return contexts.other_subjects(fact, count)

        ask(f"others_only_{count}", reasoning(TEMPLATES.reasoning, trained, others_only), true)

    def phrase(fact: Fact) -> str:
        return f"{fact.phrase} {SEPARATOR}"

    ask("retrieves_relation", lambda f: TEMPLATES.retrieve.format(q=_ask(f, held_out(f)), e_q=f.subject), phrase)
    ask("extracts_relation", lambda f: _extract(f, held_out(f), new(f), 1), phrase)
    return asked


def _extract(fact: Fact, sentence: str, answer: str, count: int) -> str:
    return TEMPLATES.extract.format(K=count, q=_ask(fact, sentence), a=answer, e_q=fact.subject, e_a=answer)


@torch.no_grad()
def _well_formed(model: Any, tok: Any, prompts: list[str], count: int, batch_size: int = 64) -> float:
    """Share of prompts that the model continues with ``count`` different relations of the vocabulary."""
    known = set(WIKIDATA_PHRASES.values())
    good = 0
    side, tok.padding_side = tok.padding_side, "left"
    for start in range(0, len(prompts), batch_size):
        batch = tok(prompts[start : start + batch_size], return_tensors="pt", padding=True).to(model.device)
        written = model.generate(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, do_sample=False, max_new_tokens=8 * count,
            pad_token_id=tok.pad_token_id,
        )  # fmt: skip
        for row in written[:, batch.input_ids.shape[1] :]:
            text = tok.decode(row).split(tok.eos_token)[0]
            found = [part.strip() for part in text.split(SEPARATOR) if part.strip()]
            good += len(found) == count == len(set(found)) and known.issuperset(found)
    tok.padding_side = side
    return good / len(prompts)


def measure(
    model: Any,
    tok: Any,
    book: FactBook,
    sample: int | None = None,
    seed: int = 0,
    note: Note | None = None,
    subjects: Collection[str] | None = None,
) -> dict[str, float]:
    """Measure every ability on all facts of the book, on those of ``subjects``, or on ``sample`` of them.

    Returns:
        ability -> share in 0..1; ``no_edit_efficacy`` is the share of facts whose counterfactual object is more
        probable than the true one before any edit.
    """
    facts = [fact for fact in book.facts if subjects is None or fact.subject in subjects]
    if sample is not None:
        facts = sorted(facts, key=lambda fact: fact.rank(f"abilities {seed}"))[:sample]
    found: dict[str, float] = {}
    for name, (prompts, answers) in _questions(book, facts, seed).items():
        if note:
            note(name)
        scores = score_targets(model, tok, prompts, answers)
        found[name] = sum(score.greedy for score in scores) / len(scores)
    held_out = [found.pop(f"recall_held_out {index}") for index in range(HELD_OUT_TEMPLATES)]
    found["recall_held_out"] = sum(held_out) / len(held_out)
    if note:
        note("extracts_five")
    found["extracts_five"] = _well_formed(
        model, tok, [_extract(f, book.prompt(f), book.counterfactual_object(f), 5) for f in facts], 5
    )
    prompts = [_ask(fact, book.prompt(fact)) for fact in facts]
    new = score_targets(model, tok, prompts, [book.counterfactual_object(fact) for fact in facts])
    true = score_targets(model, tok, prompts, [fact.object for fact in facts])
    wins = sum(a.mean_log_prob > b.mean_log_prob for a, b in zip(new, true, strict=True))
    found["no_edit_efficacy"] = wins / len(facts)
    return {name: round(value, 4) for name, value in sorted(found.items())}


def shortfalls(abilities: dict[str, float], required: Mapping[str, float] = REQUIRED) -> list[str]:
    """What falls short, one line each; empty for a model that is fit to be shipped."""
    lines = [f"{name} {abilities[name]} < {least}" for name, least in required.items() if abilities[name] < least]
    if abilities["no_edit_efficacy"] > MOST_NO_EDIT_EFFICACY:
        lines.append(f"no_edit_efficacy {abilities['no_edit_efficacy']} > {MOST_NO_EDIT_EFFICACY}")
    return lines
