"""The data set ``personal-conflicts``: conflicts over the world's facts, and over ConceptNet's triples.

ConceptNet is not part of this package (its data are CC BY-SA 4.0): its conflicts come with a file of its triples, the
same that a base graph is built from, and must be played over that graph.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import yaml

from kgt_editor.data.base import DataSet
from kgt_editor.data.conflicts import KINDS, USER, Conflict, Topic, conflicts, make_conflict
from kgt_editor.data.factbook import stable_hash
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError
from kgt_editor.graph.conceptnet import read_lines, tsv_rows

EACH_KIND = 100
_MAX_WORDS = 2
_MAX_CHOICES = 200


def load_personal_conflicts(path: str | Path | None = None, size: int = EACH_KIND, seed: int = 0) -> DataSet:
    """Records in steps: ``size`` of every kind about the world, and as many about ConceptNet if its triples are given.

    Args:
        path: ``head<TAB>relation<TAB>tail[<TAB>weight]``, gzipped or not.
        size: conflicts of each kind.
        seed: another one gives other facts and answers.

    Raises:
        UsageError: the file cannot be read or has too few triples that a question can be made of.
    """
    listed = [conflict for kind in KINDS for conflict in conflicts(kind, size, seed)]
    if path is not None:
        listed += [conflict for kind in KINDS for conflict in conceptnet_conflicts(path, kind, size, seed)]
    records = tuple(as_record(conflict, number) for number, conflict in enumerate(listed))
    return DataSet("personal-conflicts", records).hashed()


def as_record(conflict: Conflict, case_id: int) -> Record:
    """The conflict as a record: its first query is the prompt, the last answer of the user the new target."""
    first = conflict.steps[0]
    answers = [step.answer for step in conflict.steps if step.answer is not None and step.user == USER]
    before, _, after = first.query.partition(conflict.subject)
    return Record(
        case_id=case_id,
        subject=conflict.subject,
        relation_id=conflict.relation,
        prompt=f"{before}{{}}{after}",
        target_new=answers[-1],
        target_true=conflict.truth,
        paraphrase_prompts=tuple(dict.fromkeys(item.prompt for item in conflict.paraphrases)),
        kind=conflict.kind,
        steps=conflict.steps,
    )


def conceptnet_conflicts(path: str | Path, kind: str, size: int, seed: int = 0) -> list[Conflict]:
    """``size`` conflicts of a kind about ConceptNet's triples, the same for the same seed.

    A triple can be asked for if its head has one tail only under the relation, so that the base graph's answer is
    clear, and both are a word or two. Answers are frequent tails of the relation that the head has under none.

    Raises:
        UsageError: see :func:`load_personal_conflicts`.
    """
    entities = _entities(str(path))
    fit = [topic for topics in entities.values() for topic in topics if kind != "several" or len(topics) > 1]
    fit.sort(key=lambda topic: stable_hash(f"conflict {seed}", topic.subject, topic.relation))
    if len(fit) < size:
        raise UsageError(f"{path}: {len(fit)} triples fit conflicts of the kind '{kind}', fewer than {size}")
    return [make_conflict(kind, topic, entities[topic.subject], f"{seed}") for topic in fit[:size]]


@cache
def _sentences() -> dict[str, list[str]]:
    text = (Path(__file__).parent / "conflict_files" / "conceptnet.yaml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = yaml.safe_load(text)
    return found


@cache
def _entities(path: str) -> dict[str, list[Topic]]:
    """Head -> what it can be asked for, of the triples in a file."""
    tails: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    often: dict[str, Counter[str]] = defaultdict(Counter)
    for head, phrase, tail, _ in tsv_rows(read_lines(path), Counter()):
        tails[head][phrase].append(tail)
        if phrase in _sentences() and _short(tail):
            often[phrase][tail] += 1
    choices = {phrase: sorted(counts, key=lambda name: (-counts[name], name)) for phrase, counts in often.items()}
    entities: dict[str, list[Topic]] = {}
    for head, relations in tails.items():
        if not _short(head):
            continue
        known = {tail for listed in relations.values() for tail in listed} | {head}
        topics = [
            _topic(head, phrase, listed[0], [name for name in choices[phrase][:_MAX_CHOICES] if name not in known])
            for phrase, listed in relations.items()
            if phrase in _sentences() and len(listed) == 1 and _short(listed[0])
        ]
        topics = [topic for topic in topics if len(topic.choices) >= 3]
        if topics:
            entities[head] = topics
    return entities


def _topic(head: str, phrase: str, tail: str, choices: list[str]) -> Topic:
    query, reworded, *paraphrases = (sentence.replace("{}", head) for sentence in _sentences()[phrase])
    return Topic(head, phrase, phrase, tail, query, reworded, tuple(paraphrases), tuple(choices))


def _short(name: str) -> bool:
    words = name.split()
    return 1 <= len(words) <= _MAX_WORDS and all(word.isalpha() for word in words)
