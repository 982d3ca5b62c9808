"""KGT's settings for a model, chosen on validation records.

Three choices, one after the other, each from forward passes that are made once:

1. *reading* and *contrast*: with every record's fact in front, what makes the edit and paraphrase prompts come out best
   (the sum of score and accuracy of both).
2. *guard_midpoint*, *guard_slope* and *retrieval_min*: with the reading chosen, the curve under which questions in the
   edit's scope follow the fact and other questions on the subject keep their answer. Both sides count alike: score +
   accuracy of the paraphrases + 2 x the share of other questions whose answer stays. A few hundred records do not tell
   curves apart that come within ``NEAR`` of the best: of those, the one under which most paraphrases are followed.
   Other questions are the records' own (``same_subject_prompts``), or other records' prompts with the subject put in.
3. *relation_source*: ``rank`` where it hardly ever names a relation wrong, else ``query``.

Questions of several facts are read, too, up to ``HOPS`` of them, and what follows from a fact; an answer that the model
does not follow is told ``TELLINGS`` times. No record is needed to choose that.

The answer's first token stands for the whole in step 2.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kgt_editor.graph.entry import Edit
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import guard, naming
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.reader import Reader
from kgt_editor.kgt.representation import Representations
from kgt_editor.lm.chat import has_template
from kgt_editor.lm.continuations import continuation_log_probs
from kgt_editor.lm.contrast import Contrast, combine
from kgt_editor.lm.tokens import continuation_ids_batch, encode

CONTRASTS: tuple[Contrast, ...] = (0.0, 0.5, "adaptive")
MIDPOINTS = tuple(round(0.05 * step, 2) for step in range(-1, 11))
SLOPES = (10.0, 20.0, 40.0)
#: Least P(z|q) with which a fact is read at all; less of it costs passes, and moves answers that hang by a hair.
LEASTS = (0.05, 0.01, 0.002)
NEAR = 0.02
#: Share of records whose relation ``rank`` has to name right to be chosen. The user's own words are never wrong: a
#: phrase that misleads whoever reads the graph has to be rare.
LEAST_NAMED = 0.9
HOPS = 4
TELLINGS = 2
PARAPHRASES, OTHERS = 2, 3  # prompts of a record that are asked, at most
_AT_ONCE = 32  # pairs whose distributions are held together

#: Progress: what is going on, steps done, steps in all.
Advance = Callable[[str, int, int], None]
#: What was measured so far: name of a step -> its figures; a step that is in it is not measured again.
Measured = dict[str, Any]


@dataclass(frozen=True)
class ValidationCase:
    """A validation record as far as the choices need it.

    Attributes:
        query, subject: the edit prompt and whom it is about.
        new, true: the user's answer and the one before.
        paraphrases: other wordings of the question.
        others: other questions on the subject.
        relation: phrase of the relation that the prompt asks for; empty where it is not known.
    """

    query: str
    subject: str
    new: str
    true: str
    paraphrases: tuple[str, ...]
    others: tuple[str, ...]
    relation: str = ""

    @property
    def fact(self) -> tuple[Triple, Edit]:
        """The record's fact, and the feedback that it comes from."""
        triple = Triple(self.subject, self.relation or naming.from_query(self.query, self.subject), self.new)
        return triple, Edit(0, self.query, self.new, added=(triple,))


def examples(records: Sequence[Any], size: int, seed: int) -> list[ValidationCase]:
    """``size`` of the records (:class:`kgt_editor.data.record.Record`), drawn with ``seed``, as examples.

    Other questions on the subject come from the record, or else from records of other relations. Records without an
    answer from before the edit are left out: there is nothing to compare with.
    """
    rng = random.Random(seed)
    records = [record for record in records if record.target_true]
    drawn = rng.sample(list(records), min(size, len(records)))
    found = []
    for record in drawn:
        others = tuple(getattr(record, "same_subject_prompts", ()))
        if not others:
            foreign = [one for one in records if one.relation != record.relation and one.subject != record.subject]
            chosen = rng.sample(foreign, min(OTHERS, len(foreign)))
            others = tuple(one.prompt.replace("{}", record.subject) for one in chosen)
        else:
            others = tuple(rng.sample(others, min(OTHERS, len(others))))
        phrase = WIKIDATA_PHRASES.get(record.relation, "")
        asked = record.query, record.subject, record.target_new, record.target_true
        found.append(ValidationCase(*asked, record.paraphrase_prompts[:PARAPHRASES], others, phrase))
    return found


@dataclass
class Calibration:
    """Makes the choices for one model.

    Args:
        model, tok: the language model.
        examples: validation records.
        hparams: settings that are kept where nothing is chosen.
        named: more of them, by which relations are named: that costs next to nothing.
        measured: figures of an earlier, interrupted call; new ones are entered as they come.
        keep: called whenever a figure was entered.
        advance: progress.
    """

    model: Any
    tok: Any
    examples: Sequence[ValidationCase]
    hparams: KGTHyperParams
    named: Sequence[ValidationCase] = ()
    measured: Measured = field(default_factory=dict)
    keep: Callable[[], None] = lambda: None
    advance: Advance = lambda what, done, total: None

    def choose(self) -> KGTHyperParams:
        """All choices, in turn."""
        reading = max(self._readings(), key=lambda one: one["value"])
        chosen = self.hparams.override({"reading": reading["reading"], "contrast": reading["contrast"]}, "calibrate")
        curve = self._curve(chosen)
        named = self._named()
        source = "rank" if named["of"] and named["top 1"] >= LEAST_NAMED else "query"
        values = {
            "guard_midpoint": curve["midpoint"],
            "guard_slope": curve["slope"],
            "retrieval_min": curve["least"],
            "relation_source": source,
            "hops": HOPS,
            "tellings": TELLINGS,
            "consequences": True,
        }
        return chosen.override(values, "calibrate")

    # 1. How a fact is read

    def _readings(self) -> list[dict[str, Any]]:
        forms = ["repeat", "stored", "paper", *(["chat"] if has_template(self.tok) else [])]
        found = []
        for form in forms:
            name = f"reading {form}"
            if name not in self.measured:
                self._enter(name, self._reading(form))
            found += self.measured[name]
        return found

    def _reading(self, form: str) -> list[dict[str, Any]]:
        """Score and accuracy of the edit prompts and the paraphrases, for every contrast."""
        reader = self._reader(form)
        asked = [
            (one, prompt, place) for one in self.examples for place, prompt in enumerate((one.query, *one.paraphrases))
        ]
        hits: dict[Contrast, list[tuple[bool, bool, bool]]] = {contrast: [] for contrast in CONTRASTS}
        for start in range(0, len(asked), _AT_ONCE // 2):
            self.advance(f"reading: {form}", start, len(asked))
            part = asked[start : start + _AT_ONCE // 2]
            contexts = [reader.prompt(prompt, *one.fact) for one, prompt, _ in part for _ in range(2)]
            prompts = [prompt for _, prompt, _ in part for _ in range(2)]
            targets = [target for one, _, _ in part for target in (one.new, one.true)]
            both = iter(self._distributions(contexts, prompts, targets))
            for (_, _, place), new, true in zip(part, both, both, strict=True):
                for contrast in CONTRASTS:
                    value, greedy = _mean(*new, contrast)
                    hits[contrast].append((place == 0, value > _mean(*true, contrast)[0], greedy))
        rows = []
        for contrast, judged in hits.items():
            row: dict[str, Any] = {"reading": form, "contrast": contrast}
            for name, wanted in (("efficacy", True), ("paraphrase", False)):
                own = [(score, greedy) for edit, score, greedy in judged if edit is wanted]
                row[f"{name} score"] = _share([score for score, _ in own])
                row[f"{name} accuracy"] = _share([greedy for _, greedy in own])
            row["value"] = round(sum(value for key, value in row.items() if key not in ("reading", "contrast")), 4)
            rows.append(row)
        return rows

    def _distributions(
        self, contexts: Sequence[str], prompts: Sequence[str], targets: Sequence[str]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each text: log probabilities with the fact and without, shape (tokens, vocabulary), and the tokens."""
        pairs = continuation_ids_batch(self.tok, contexts, targets)
        plain = encode(self.tok, [prompt.rstrip() for prompt in prompts])
        bare = [(ids, target) for ids, (_, target) in zip(plain, pairs, strict=True)]
        found = continuation_log_probs(self.model, [*pairs, *bare])
        wanted = [torch.tensor(target, device=row.device) for (_, target), row in zip(pairs, found, strict=False)]
        return list(zip(found[: len(pairs)], found[len(pairs) :], wanted, strict=True))

    def _reader(self, form: str) -> Reader:
        return Reader(self.tok, self.hparams.prompts(), form, self.hparams.fact)

    # 2. Which questions a fact bears on

    def _curve(self, chosen: KGTHyperParams) -> dict[str, Any]:
        name = f"bearing {chosen.reading} {chosen.contrast}"
        if name not in self.measured:
            self._enter(name, self._best_curve(chosen))
        curve: dict[str, Any] = self.measured[name]
        return curve

    def _best_curve(self, chosen: KGTHyperParams) -> dict[str, Any]:
        reader, representations = self._reader(chosen.reading), Representations.of(self.model, self.tok)
        curves = list(itertools.product(MIDPOINTS, SLOPES, LEASTS))
        hits: dict[tuple[float, float, float], list[tuple[bool, bool, bool]]] = {curve: [] for curve in curves}
        for number, one in enumerate(self.examples):
            self.advance("guard", number, len(self.examples))
            prompts = [*one.paraphrases, *one.others]
            if not prompts:
                continue
            asked = [guard.Asked(prompt, one.subject, [one.query], one.subject) for prompt in prompts]
            near = [values[0] for values in guard.similarities(representations, asked)]
            contexts = [reader.prompt(prompt, *one.fact) for prompt in prompts]
            read = self._distributions(contexts, prompts, [one.new] * len(prompts))
            for place, (value, (with_fact, plain, tokens)) in enumerate(zip(near, read, strict=True)):
                true = continuation_ids_batch(self.tok, [prompts[place]], [one.true])[0][1][0]
                before = int(plain[0].argmax())
                for curve in curves:
                    midpoint, slope, least = curve
                    weight = math.exp(guard.curve([value], midpoint, slope)[0])
                    weight = weight if weight >= least else 0.0
                    mixed = combine(with_fact[0], plain[0], weight, chosen.contrast) if weight else plain[0]
                    said, inside = int(mixed.argmax()), place < len(one.paraphrases)
                    better = bool(mixed[int(tokens[0])] > mixed[true])
                    hits[curve].append((inside, better, said == int(tokens[0]) if inside else said == before))
        rows = []
        for (midpoint, slope, least), judged in hits.items():
            row = {
                "midpoint": midpoint,
                "slope": slope,
                "least": least,
                "in-scope score": _share([better for inside, better, _ in judged if inside]),
                "in-scope accuracy": _share([right for inside, _, right in judged if inside]),
                "others kept": _share([kept for inside, _, kept in judged if not inside]),
            }
            row["value"] = round(row["in-scope score"] + row["in-scope accuracy"] + 2 * row["others kept"], 4)
            rows.append(row)
        least_value = max(row["value"] for row in rows) - NEAR
        return max((row for row in rows if row["value"] >= least_value), key=lambda row: row["in-scope accuracy"])

    # 3. What the relation is called

    def _named(self) -> dict[str, Any]:
        if "naming" not in self.measured:
            known = [one for one in self.named if one.relation]
            self.advance("naming relations", 0, 1)
            vocabulary = list(WIKIDATA_PHRASES.values())
            queries = [(one.query, one.subject, one.new) for one in known]
            ranked = naming.rank(self.model, self.tok, queries, [vocabulary] * len(known), 5)
            row: dict[str, Any] = {"of": len(known)}
            for k in (1, 3, 5):
                row[f"top {k}"] = _share([one.relation in best[:k] for one, best in zip(known, ranked, strict=True)])
            self._enter("naming", row)
        named: dict[str, Any] = self.measured["naming"]
        return named

    def _enter(self, name: str, figures: Any) -> None:
        self.measured[name] = figures
        self.keep()


def _mean(with_fact: Tensor, plain: Tensor, tokens: Tensor, contrast: Contrast) -> tuple[float, bool]:
    """Mean log probability of the tokens, and whether each is the first choice."""
    log_probs = combine(with_fact, plain, 1.0, contrast)
    return float(log_probs.gather(1, tokens[:, None]).mean()), bool((log_probs.argmax(1) == tokens).all())


def _share(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0
