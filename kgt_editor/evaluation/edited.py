"""What the edits of a run change on purpose, besides what they are judged by.

CounterFact edits some facts twice, to other targets, and some of its neighbourhood prompts ask for a fact that another
record edits. Neither says how well an editor edits once both are in force. Where they edit by the thousand, Meng et al.
(2023, MEMIT) leave out edits that contradict each other; here they are made, and those taken back are not judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from kgt_editor.data.record import Probe, Record


class Edited:
    """Some edits that are in force together.

    Args:
        records: in the order of editing.
        one_by_one: each edit is undone before the next, so that none takes an earlier one back.
    """

    def __init__(self, records: Sequence[Record] = (), one_by_one: bool = False) -> None:
        self._cases = frozenset[int]() if one_by_one else frozenset(record.case_id for record in records)
        self._queries = frozenset(record.query for record in records)
        # Without a relation, only its wordings tell that a prompt asks for an edited fact.
        self._wordings = frozenset(
            prompt for record in records if not record.relation for prompt in record.paraphrase_prompts
        )
        self._subjects: dict[str, set[str]] = defaultdict(set)
        self._last = {} if one_by_one else {_fact(record): record.target_new for record in records}
        for record in records:
            if record.relation:
                self._subjects[record.relation].add(record.subject)
        self._longest = max((len(record.subject) for record in records), default=0)

    def superseded(self, record: Record) -> bool:
        """Whether a later edit gives the same subject and relation (without one: the same query) another target."""
        return self._last.get(_fact(record), record.target_new) != record.target_new

    def changes(self, prompt: str, relation: str) -> bool:
        """Whether ``prompt``, which asks for ``relation``, is an edit prompt or names a subject edited under it.

        Where it is not known what the prompt asks for (an empty ``relation``): whether it is an edit prompt, or
        another wording of one, of an edit of which that is not known either.
        """
        if prompt in self._queries or (not relation and prompt in self._wordings):
            return True
        subjects = self._subjects.get(relation, ())
        return bool(subjects) and any(span in subjects for span in _spans(prompt, self._longest))

    def neighbourhood(self, record: Record) -> tuple[str, ...]:
        """The record's neighbourhood prompts without those that the edits change on purpose."""
        return tuple(text for text in record.neighbourhood_prompts if not self.changes(text, record.relation))

    def same_subject(self, record: Record) -> tuple[str, ...]:
        """Its questions on the same subject without those that are wordings of an edit."""
        return tuple(text for text in record.same_subject_prompts if not self.changes(text, ""))

    def probes(self, record: Record) -> tuple[Probe, ...]:
        """Its other questions without those that follow from edits which are not all in force."""
        made = self._cases or {record.case_id}
        return tuple(probe for probe in record.probes if made.issuperset(probe.needs))


def _fact(record: Record) -> tuple[str, ...]:
    return (record.subject, record.relation) if record.relation else (record.query,)


def _spans(text: str, longest: int) -> Iterator[str]:
    """The stretches of whole words of up to ``longest`` characters."""
    inside = [character.isalnum() for character in text]
    edges = [i for i in range(len(text) + 1) if not (0 < i < len(text) and inside[i - 1] and inside[i])]
    for number, start in enumerate(edges):
        for end in edges[number + 1 :]:
            if end - start > longest:
                break
            yield text[start:end]
