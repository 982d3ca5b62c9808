"""CounterFact's ways to ask, read from a file of it, as sentences that a testbed model is trained on.

The package ships none of CounterFact's prompt text; a training that wants a model to read it is given the file. A third
of all pairs of subject and sentence, fixed by hashing, is kept out of the training text: there a model has seen the
sentence with other subjects and the subject in other sentences.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random

from kgt_editor.data.counterfact import read_records
from kgt_editor.data.factbook import stable_hash
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError

_DRAWS = 8  # tries to find a sentence that may be shown


def is_held_out(subject: str, sentence: str) -> bool:
    """Whether a sentence (``{}`` for the subject) is never shown with this subject."""
    return stable_hash("prompt", subject, sentence) % 3 == 0


def asked_texts(record: Record) -> set[str]:
    """Every text of a record that asks for its fact: edit prompt, paraphrases and generation prompts."""
    return {record.query, *record.paraphrase_prompts, *record.generation_prompts}


class Prompts:
    """Sentences by relation, each as often as the records ask with it.

    Args:
        records: of CounterFact in a layout that names the relations.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_relation: dict[str, list[str]] = defaultdict(list)
        for record in records:
            sentences = (text.replace(record.subject, "{}") for text in sorted(asked_texts(record)))
            if record.relation:
                self._by_relation[record.relation] += [sentence for sentence in sentences if sentence.count("{}") == 1]
        self._distinct = {relation: set(found) for relation, found in self._by_relation.items()}

    @property
    def relations(self) -> frozenset[str]:
        """The relations that are asked for."""
        return frozenset(relation for relation, found in self._by_relation.items() if found)

    @property
    def sentences(self) -> list[str]:
        """Every sentence once, without its subject, in a fixed order."""
        return sorted({text.replace("{}", "") for found in self._distinct.values() for text in found})

    def draw(self, random: Random, subject: str, relation: str, others: Iterable[str] = ()) -> str | None:
        """A sentence that asks for the relation and is not held out for this subject.

        Args:
            random: where chance comes from.
            subject, relation: what is asked for.
            others: the subject's other relations; a sentence that asks for one of them too has two answers.

        Returns:
            None where there is none, or none was found in a few tries.
        """
        sentences = self._by_relation.get(relation)
        if not sentences:
            return None
        taken = [self._distinct.get(other, set()) for other in others]
        for _ in range(_DRAWS):
            sentence = random.choice(sentences)
            if not is_held_out(subject, sentence) and not any(sentence in other for other in taken):
                return sentence
        return None


def read_prompts(path: Path) -> tuple[Prompts, str]:
    """The sentences of a CounterFact file in ROME's layout, and the file's SHA-256.

    Raises:
        UsageError: the file cannot be read, or names no relations (EasyEdit's layout).
    """
    prompts = Prompts(read_records(path))
    if not prompts.relations:
        raise UsageError(f"{path}: names no relation; give CounterFact in ROME's layout")
    return prompts, hashlib.sha256(path.read_bytes()).hexdigest()
