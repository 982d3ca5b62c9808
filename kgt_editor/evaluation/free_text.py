"""Longer texts about an edited subject: are they still language, and are they about what the edit says?

GE and RS of Meng et al. 2022 (ROME, section 3.4): the entropy of a text's n-grams, which falls where a broken model
repeats itself, and how much the text has in common with texts about other subjects of which the new answer is true.
ROME samples 100 tokens and compares with Wikipedia articles; here the text is the greedy one, so that it does not
depend on chance, and the reference is what the data set itself says of those subjects. So the numbers compare editors
of one run, the row without edits among them, and are not to be set beside published ones.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kgt_editor.data.record import Record
from kgt_editor.evaluation.answers import continuations

MAX_NEW_TOKENS = 50
_MOST_STATEMENTS = 20  # in a reference

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(text.casefold())


def entropy(text: str) -> float:
    """GE: the mean of the bigrams' and the trigrams' entropies in bits, weighted by 2/3 and 4/3; 0 for a short text."""
    found, total = words(text), 0.0
    for n, weight in ((2, 2 / 3), (3, 4 / 3)):
        counts = Counter(zip(*(found[start:] for start in range(n)), strict=False))
        size = sum(counts.values())
        total += weight * -sum(count / size * math.log2(count / size) for count in counts.values())
    return total / 2


class References:
    """What a data set says of the subjects that each answer is true of.

    Args:
        records: all of the data set; words are weighed by how few of their statements have them (TF-IDF).
        wanted: the records whose references are kept.
    """

    def __init__(self, records: Iterable[Record], wanted: Sequence[Record]) -> None:
        asked = {(record.relation, record.target_new) for record in wanted}
        texts: dict[tuple[str, str], list[str]] = defaultdict(list)
        documents: Counter[str] = Counter()
        self._count = 0
        for record in records:
            if not record.target_true:
                continue  # nothing is said of its subject before the edit
            statement = f"{record.query} {record.target_true}."
            documents.update(set(words(statement)))
            self._count += 1
            key = (record.relation, record.target_true)
            if key in asked and len(texts[key]) < _MOST_STATEMENTS:
                texts[key].append(statement)
        self._documents = dict(documents)
        self._texts = {key: " ".join(found) for key, found in texts.items()}

    def score(self, text: str, record: Record) -> float | None:
        """RS: cosine of the TF-IDF vectors of a text and of the record's reference, 0..1; None without a reference."""
        reference = self._texts.get((record.relation, record.target_new))
        if reference is None:
            return None
        left, right = self._vector(text), self._vector(reference)
        norm = math.sqrt(sum(x * x for x in left.values()) * sum(x * x for x in right.values()))
        return sum(value * right.get(word, 0.0) for word, value in left.items()) / norm if norm else 0.0

    def _vector(self, text: str) -> dict[str, float]:
        return {
            word: count * (math.log((1 + self._count) / (1 + self._documents.get(word, 0))) + 1)
            for word, count in Counter(words(text)).items()
        }


@dataclass(frozen=True)
class FreeText:
    """What a model wrote about the subject of a record.

    Attributes:
        texts: a text a generation prompt, the prompt left out.
        entropy: GE, the mean over the texts, in bits; None where nothing was written.
        reference: RS of the texts together; None without texts, or a reference.
    """

    texts: tuple[str, ...] = ()
    entropy: float | None = None
    reference: float | None = None


def write(model: Any, tok: Any, records: Sequence[Record], references: References) -> list[FreeText]:
    """Let an edited model go on from the generation prompts of ``records``; nothing where it cannot generate."""
    prompts = [prompt for record in records for prompt in record.generation_prompts]
    if not callable(getattr(model, "generate", None)) or not prompts:
        return [FreeText() for _ in records]
    written = continuations(model, tok, prompts, MAX_NEW_TOKENS)
    found, texts = [], iter(text.strip() for text in written)
    for record in records:
        own = tuple(next(texts) for _ in record.generation_prompts)
        mean = sum(map(entropy, own)) / len(own) if own else None
        found.append(FreeText(own, mean, references.score(" ".join(own), record) if own else None))
    return found
