"""CounterFact's ways to ask, read from a file of it, as sentences that a testbed model is trained on.

The package ships none of CounterFact's prompt text; a training that wants a model to read it is given the file. Every
pair of subject and prompt that the file holds is kept out of the training text: a model sees the prompt with other
subjects and the subject in other prompts, so what ``kgt_editor.testbed.recall`` asks it was never shown.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random

from kgt_editor.data.counterfact import read_records
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError

_DRAWS = 8  # tries to find a sentence that the subject was not asked with


def asked_texts(record: Record) -> set[str]:
    """Every text of a record that asks for its fact: edit prompt, paraphrases and generation prompts."""
    return {record.query, *record.paraphrase_prompts, *record.generation_prompts}


class Prompts:
    """Sentences by relation, each as often as the records ask with it, and the pairs to keep out.

    Args:
        records: of CounterFact in a layout that names the relations.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_relation: dict[str, list[str]] = defaultdict(list)
        self._held_out: set[tuple[str, str]] = set()
        for record in records:
            relation = record.relation_id.split("(", 1)[0]
            for text in sorted(asked_texts(record)):
                if text.count(record.subject) == 1:
                    sentence = text.replace(record.subject, "{}")
                    self._held_out.add((record.subject, sentence))
                    if relation and sentence.count("{}") == 1:
                        self._by_relation[relation].append(sentence)
        self._common = {relation: set(found) for relation, found in self._by_relation.items()}

    @property
    def relations(self) -> frozenset[str]:
        """The relations that are asked for."""
        return frozenset(self._by_relation)

    @property
    def sentences(self) -> list[str]:
        """Every sentence once, without its subject, in a fixed order."""
        return sorted({text.replace("{}", "") for found in self._common.values() for text in found})

    def draw(self, random: Random, subject: str, relation: str, others: Iterable[str] = ()) -> str | None:
        """A sentence that asks for the relation, and that the file does not ask of this subject.

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
        taken = [self._common.get(other, set()) for other in others]
        for _ in range(_DRAWS):
            sentence = random.choice(sentences)
            if (subject, sentence) not in self._held_out and not any(sentence in other for other in taken):
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
