"""Training text of the testbed models, made on the fly from true facts.

An example is a list of tokens; each token carries how much its prediction counts and whether it belongs to the
subject whose fact is asked for. The subject marks become attention masks (see ``train.py``) that make the model
gather what it knows about a subject at the subject's last token, as large models do (Meng et al. 2022, section 2)
and as ROME needs.

What a model is taught, and never with a fact's held-out sentences:

- plain sentences: the facts themselves, of all subjects;

and, as instruction examples, of the ``instructed`` subjects and of made-up ones alone (no other subject of the book is
named in them, be it as the one asked about, as the head of a fact or as a tail):

- T_reasoning and T_prefix with facts in the context, of which one bears on the question (answer: its tail, true or
  not) or none does (answer: what the model knows);
- T_retrieve: the relation that the question needs; T_extract: K relations between subject and object.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable

from kgt_editor.data.factbook import Fact, FactBook
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.kgt.templates import NO_FACTS, SEPARATOR, Templates
from kgt_editor.testbed.prompts import Prompts
from kgt_editor.testbed.training_text import TrainingText

# How much predicting a token counts: answers; names repeated inside a template (learning to copy is what makes the
# model follow facts); T_extract's relations; other words of plain sentences.
ANSWER, COPY, EXTRACTED, PLAIN = 1.0, 0.5, 0.3, 0.1

Encode = Callable[[str], tuple[int, ...]]


def related_relations(book: FactBook) -> dict[str, list[str]]:
    """Relation -> the other relations, those that share most objects with it first (fixed order)."""
    objects = {relation: set(names) for relation, names in book.objects.items()}

    def overlap(a: str, b: str) -> float:
        return len(objects[a] & objects[b]) / len(objects[a] | objects[b])

    return {a: sorted((b for b in objects if b != a), key=lambda b: (-overlap(a, b), b)) for a in objects}


class Corpus:
    """An endless, seeded stream of training examples.

    Args:
        book: the facts to teach.
        encode: text -> token ids of a piece as it stands in running text, its leading space (or none) included.
        end_id: token that ends an example.
        seed: fixes the stream.
        masked_share: share of plain and reasoning examples trained under the subject masks.
        prompts: sentences besides the book's own.
        instructed: subjects that instruction examples may name; None: all.

    Raises:
        ValueError: no fact is left for the instruction examples.

    Attributes:
        crowding: share of contexts with several facts.
        counts: weights of 2, 3, 4, 6 and 8 facts among those.
        prefix_share: share of contexts in T_prefix's form, the rest in T_reasoning's.
        front_share, most_in_front: share of plain sentences that stand after others, and after how many at most.
        prompts_share: share of sentences taken from ``prompts``.
        fresh_share: share of made-up subjects among contexts with a fact that bears on the question.
        fresh_prompts: whether made-up subjects are asked for with ``prompts`` too, or with the book's sentences alone.
    """

    def __init__(
        self,
        book: FactBook,
        encode: Encode,
        end_id: int,
        seed: int = 0,
        masked_share: float = 0.95,
        prompts: Prompts | None = None,
        instructed: Collection[str] | None = None,
    ) -> None:
        self.encode, self.end_id, self.random, self.masked_share = encode, end_id, random.Random(seed), masked_share
        self.prompts = prompts
        self.crowding, self.prefix_share, self.prompts_share, self.fresh_prompts = 0.6, 0.3, 0.0, False
        self.counts: tuple[float, ...] = (40, 16, 20, 9, 15)
        self.fresh_share = 0.5
        self.front_share, self.most_in_front = 0.2, 1
        self.book = book
        self.facts = book.facts
        self.relations = sorted(book.objects)
        self.related = related_relations(book)
        allowed = set(book.by_subject if instructed is None else instructed)
        held_out = set(book.by_subject) - allowed
        self.instructed_facts = [f for f in self.facts if f.subject in allowed and f.object not in held_out]
        if not self.instructed_facts:
            raise ValueError("no fact of the book is about an instructed subject")
        self.objects = {
            relation: [name for name in names if name not in held_out] for relation, names in book.objects.items()
        }
        self.all_objects = sorted({name for names in self.objects.values() for name in names})
        self.words = sorted({word for subject in book.by_subject for word in subject.split()})
        self.subjects = sorted({fact.subject for fact in self.instructed_facts})
        self.subjects_of = {
            relation: sorted({fact.subject for fact in self.instructed_facts if fact.relation == relation})
            for relation in self.relations
        }
        self.templates = Templates()

    # -- pieces -------------------------------------------------------------------------------------------------

    def _words(self, text: str) -> tuple[int, ...]:
        """Tokens of a piece that stands after a space."""
        text = text.strip()
        return self.encode(" " + text) if text else ()

    def _fresh_name(self) -> str:
        """A name of no one in the book, from its name parts."""
        while True:
            name = " ".join(self.random.choices(self.words, k=self.random.choice((1, 2, 2, 3))))
            if name not in self.book.by_subject:
                return name

    def _object(self, relation: str) -> str:
        """A tail for a made-up fact: mostly of the relation's kind, sometimes any name, sometimes a new one."""
        point = self.random.random()
        if point < 0.70:
            return self.random.choice(self.objects[relation])
        return self.random.choice(self.all_objects) if point < 0.90 else self._fresh_name()

    def _query(self, example: TrainingText, sentence: str, subject: str, masked: bool, weight: float) -> int:
        """Add the sentence with its subject; returns the index of its last token."""
        before, after = sentence.split("{}")
        example.add(self._words(before), weight)
        example.add(self._words(subject), weight, subject=masked)
        example.add(self.encode(after), weight, restricted=masked)
        return len(example.ids) - 1

    def _prompt(self, subject: str, relation: str, others: Iterable[str] = ()) -> str | None:
        """One of ``prompts``, in their share; see :meth:`Prompts.draw`."""
        if self.prompts and self.random.random() < self.prompts_share:
            return self.prompts.draw(self.random, subject, relation, others)
        return None

    def _sentence(self, fact: Fact) -> str:
        """A way to ask for a known fact."""
        relations = (other.relation for other in self.book.by_subject[fact.subject])
        others = (relation for relation in relations if relation != fact.relation)
        found = self._prompt(fact.subject, fact.relation, others)
        return found or self.random.choice(self.book.trained_templates(fact))

    def _fresh_sentence(self, subject: str, relation: str) -> str:
        """A way to ask for a fact of a made-up subject."""
        found = self._prompt(subject, relation) if self.fresh_prompts else None
        return found or self.random.choice(self.book.templates[relation])

    def _masked(self) -> bool:
        return self.random.random() < self.masked_share

    def _end(self, example: TrainingText, weight: float = PLAIN) -> TrainingText:
        example.add((self.end_id,), weight)
        return example

    # -- kinds of examples --------------------------------------------------------------------------------------

    def plain(self) -> TrainingText:
        """A sentence that states a true fact, now and then after others."""
        fact = self.random.choice(self.facts)
        example = TrainingText()
        if self.random.random() < self.front_share:
            for _ in range(self.random.randint(1, self.most_in_front) if self.most_in_front > 1 else 1):
                other = self.random.choice(self.facts)
                text = self._sentence(other).replace("{}", other.subject)
                example.add(self._words(f"{text} {other.object}."), 0.0)
        masked = self._masked()
        self._query(example, self._sentence(fact), fact.subject, masked, PLAIN)
        example.add(self._words(fact.object), ANSWER, restricted=masked)
        example.add(self.encode("."), PLAIN, restricted=masked)
        return self._end(example)

    def _distractors(self, subject: str, relation: str, count: int) -> list[tuple[str, str, str]]:
        """Facts that do not bear on (subject, relation): of the subject, of others, and of others with the relation."""
        found: dict[tuple[str, str], tuple[str, str, str]] = {}
        style = self.random.choice(("same", "other", "mixed"))
        while len(found) < count:
            if style == "same" or (style == "mixed" and self.random.random() < 0.5):
                head = subject
                nearby = self.random.random() < 0.5
                other = self.random.choice(self.related[relation][:6] if nearby else self.related[relation])
            else:
                other = relation if self.random.random() < 0.5 else self.random.choice(self.relations)
                known = self.subjects_of[other]
                head = self.random.choice(known if known and self.random.random() < 0.7 else self.subjects)
                if head == subject:
                    continue
            found[head, other] = (head, WIKIDATA_PHRASES[other], self._object(other))
        return list(found.values())

    def _fact_count(self) -> int:
        if self.random.random() > self.crowding:
            return 1
        return self.random.choices((2, 3, 4, 6, 8), weights=self.counts)[0]

    def reasoning(self, relevant: bool) -> TrainingText:
        """A question with facts in the context: one bears on it, or (``relevant=False``) none does."""
        fact = self.random.choice(self.instructed_facts)
        subject, relation, answer = fact.subject, fact.relation, fact.object
        known = True
        facts: list[tuple[str, str, str]] = []
        if relevant:
            if self.random.random() < self.fresh_share:
                subject, known = self._fresh_name(), False
            answer = answer if known and self.random.random() < 0.06 else self._object(relation)
            count = self._fact_count()
            facts = self._distractors(subject, relation, count - 1)
            facts.append((subject, WIKIDATA_PHRASES[relation], answer))
            self.random.shuffle(facts)
        elif self.random.random() > 0.25:
            facts = self._distractors(subject, relation, self._fact_count())
        masked = self._masked()
        example = TrainingText()
        opening, _, _ = self.templates.reasoning.partition(" <question>:")
        example.add(self._words(opening))
        sentence = self._sentence(fact) if known else self._fresh_sentence(subject, relation)
        if self.random.random() < self.prefix_share:  # T_prefix
            example.add(self._words("<facts>:"))
            self._facts(example, facts)
            example.add(self._words("<question>:"))
            self._query(example, sentence, subject, masked, 0.0)
        else:
            example.add(self._words("<question>:"))
            last = self._query(example, sentence, subject, masked, 0.0)
            if known:
                # What the model knows has to be at hand when the facts turn out not to help.
                example.hidden[last] = self._words(fact.object)[0]
            example.add(self._words("<facts>:"))
            self._facts(example, facts, (subject, WIKIDATA_PHRASES[relation]))
            example.add(self._words("<answer>:"), restricted=masked)
        example.add(self._words(answer), ANSWER, restricted=masked)
        return self._end(example)

    def _facts(
        self, example: TrainingText, facts: list[tuple[str, str, str]], asked: tuple[str, str] | None = None
    ) -> None:
        """Add the facts; ``asked`` is the head and relation of a question that stands before them.

        With it, the relation that bears on the question has to be foreseen, and each tail is asked whether its fact
        does: the probe target is the mark of the answer for the one that does, the next fact's semicolon for the
        others. Without these targets the model does not learn to tell several facts apart in the time it has.
        """
        if not facts:
            example.add(self._words(NO_FACTS))
        for number, (head, phrase, tail) in enumerate(facts):
            example.add(self._words(head), COPY if asked and head == asked[0] else 0.0)
            bears = (head, phrase) == asked
            example.add(self._words(phrase), COPY if bears else 0.0)
            example.add(self._words(tail))
            if asked:
                example.hidden[len(example.ids) - 1] = (self._words("<answer>:") if bears else self.encode(";"))[0]
            if number < len(facts) - 1:
                example.add(self.encode(";"))

    def _question(self) -> tuple[str, str, str, str]:
        """Subject, relation, sentence and the true object, of a known fact or of a made-up subject."""
        fact = self.random.choice(self.instructed_facts)
        if self.random.random() < 0.25:
            name = self._fresh_name()
            return name, fact.relation, self._fresh_sentence(name, fact.relation), fact.object
        return fact.subject, fact.relation, self._sentence(fact), fact.object

    def retrieve(self) -> TrainingText:
        """T_retrieve and the relation that the question needs."""
        subject, relation, sentence, _ = self._question()
        example = TrainingText()
        opening, rest = self.templates.retrieve.format(q="\0", e_q="\1").split("\0")
        middle = rest.removesuffix("\1")
        example.add(self._words(opening))
        self._query(example, sentence, subject, False, 0.0)
        example.add(self.encode(middle.rstrip()))
        example.add(self._words(subject), COPY)
        example.add(self._words(WIKIDATA_PHRASES[relation]), ANSWER)
        example.add(self._words(SEPARATOR), ANSWER)
        return self._end(example, 0.0)

    def extract(self) -> TrainingText:
        """T_extract and K relations, the one that the query states first."""
        subject, relation, sentence, true = self._question()
        answer = true if self.random.random() < 0.2 else self._object(relation)
        count = self.random.choices((1, 2, 3, 4, 5), weights=(40, 10, 10, 10, 30))[0]
        pieces = {"K": str(count), "e_q": subject, "e_a": answer, "q": sentence.replace("{}", subject), "a": answer}
        example = TrainingText()
        filled: set[str] = set()
        text = self.templates.extract
        while "{" in text:
            before, _, text = text.partition("{")
            name, _, text = text.partition("}")
            example.add(self.encode(before.rstrip() if example.ids else " " + before.rstrip()))
            example.add(self._words(pieces[name]), COPY if pieces[name] in filled else 0.0)
            filled.add(pieces[name])
        example.add(self._words(text))
        for other in [relation, *self.related[relation]][:count]:
            example.add(self._words(WIKIDATA_PHRASES[other]), ANSWER if other == relation else EXTRACTED)
            example.add(self._words(SEPARATOR), EXTRACTED)
        return self._end(example, EXTRACTED)

    def draw(self, shares: dict[str, float]) -> TrainingText:
        """The next example, of a kind drawn by ``shares``."""
        kind = self.random.choices(list(shares), weights=list(shares.values()))[0]
        if kind in ("relevant", "irrelevant"):
            return self.reasoning(kind == "relevant")
        make: dict[str, Callable[[], TrainingText]] = {
            "plain": self.plain, "retrieve": self.retrieve, "extract": self.extract
        }  # fmt: skip
        return make[kind]()
