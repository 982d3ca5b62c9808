"""CounterFactExtension, rebuilt from the published facts (Sun, Du and Chen, arXiv 2405.19686, Appendix B).

The data set was never published. The paper takes the knowledge pairs that Dai et al. (2022) made from PARAREL's
facts, and has GPT-4 name a counterfactual target and write a generation prompt. Here both come from rules and from
sentences of our own, so that anybody can build the same bytes and see why each record is what it is.

The count. Dai et al. published 27,738 facts (27,717 distinct ones; 17 occur twice or more). Sorted by relation id as
text, in their published order within a relation, the facts stand at exactly the case numbers of the paper's two
examples: 0 is Alan Turing's field of work, 25585 is Ukraine and Malaysia. So the paper numbers these 27,738 facts
from 0, repeats included: its "27737" is the last case number, or the count after one of the last 2,152 was dropped.
All facts are kept here, under those numbers.
"""

from __future__ import annotations

import bisect
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kgt_editor.data import fields
from kgt_editor.data.base import DataSet, seeded_key
from kgt_editor.data.counterfact import deal, read_records
from kgt_editor.data.reading import read_document, read_rows
from kgt_editor.data.same_subject import Question
from kgt_editor.errors import UsageError

MAX_NEIGHBOURS = 10

# If one of these holds between A and B, the second holds between B and A.
_INVERSE = {"P47": "P47", "P190": "P190", "P530": "P530", "P36": "P1376", "P1376": "P36"}


@dataclass(frozen=True, slots=True)
class SourceFact:
    """A published fact; ``relation`` is a Wikidata id ("P101"), ``object_id`` too, or empty."""

    subject: str
    relation: str
    object: str
    object_id: str = ""


@dataclass(frozen=True, slots=True)
class Sentences:
    """What a relation is asked with; ``{}`` is the subject, the object follows the last word."""

    label: str
    edit: str
    paraphrases: tuple[str, ...]
    generation: tuple[str, ...]

    @property
    def questions(self) -> tuple[str, ...]:
        """The sentences that ask for the object in so many words; neighbourhood prompts use them in turn."""
        return (self.edit, *self.paraphrases)


@cache
def sentences() -> dict[str, Sentences]:
    """Relation id -> its sentences, for the 34 relations of the facts."""
    text = (Path(__file__).parent / "extension_files" / "templates.yaml").read_text(encoding="utf-8")
    return {
        relation: Sentences(entry["label"], entry["edit"], tuple(entry["paraphrases"]), tuple(entry["generation"]))
        for relation, entry in yaml.safe_load(text).items()
    }


def load_extension(path: str | Path, questions: Iterable[Question] = ()) -> DataSet:
    """The data set from a file that :func:`build` wrote, dealt to the four roles as CounterFact is.

    Args:
        path: the file.
        questions: on the records' subjects, see :func:`kgt_editor.data.counterfact.deal`.

    Raises:
        UsageError: see :func:`kgt_editor.data.counterfact.read_records`.
    """
    return deal("counterfact-extension", read_records(path), questions)


def read_questions(path: str | Path) -> list[Question]:
    """The facts of a file (see :func:`read_facts`) as questions in our own sentences.

    Raises:
        UsageError: see :func:`read_facts`.
    """
    own = sentences()
    return [
        Question(fact.subject, fact.relation, own[fact.relation].edit.replace("{}", fact.subject))
        for fact in read_facts(path)
    ]


def read_facts(path: str | Path) -> list[SourceFact]:
    """The facts of a file, gzipped or not. Runs of spaces in names become one.

    Either a JSON list or JSON lines, each fact with ``subject``, ``object`` and ``relation_id`` ("P101") or
    ``relation`` ("P101(field of work)"), and perhaps ``object_id``; or, under its own name, ``query_pairs.json`` of
    Dai et al.'s repository: an object of relation ids, each with a list of [subject, object].

    Raises:
        UsageError: the file cannot be read, or a fact lacks a field or has a relation without sentences.
    """
    rows = _pairs(path) if Path(path).name.startswith("query_pairs.json") else read_rows(path)
    found = []
    for where, row in rows:
        row = fields.an_object(row, where)
        name = "relation_id" if row.get("relation_id") else "relation"
        relation = fields.text(row, name, where).split("(", 1)[0]
        if relation not in sentences():
            known = ", ".join(sentences())
            raise UsageError(f"{where}: field '{name}': there are no sentences for {relation!r}; known: {known}")
        subject, obj = (" ".join(fields.text(row, key, where).split()) for key in ("subject", "object"))
        found.append(SourceFact(subject, relation, obj, fields.optional_text(row, "object_id", where)))
    return found


def _pairs(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for relation, listed in fields.an_object(read_document(path), f"{path}").items():
        if not isinstance(listed, list):
            raise UsageError(f"{path}, {relation}: is not a list of [subject, object]")
        for number, pair in enumerate(listed):
            where = f"{path}, {relation}, pair {number}"
            if not isinstance(pair, list) or len(pair) != 2:
                raise UsageError(f"{where}: must be [subject, object]")
            yield where, {"subject": pair[0], "object": pair[1], "relation_id": relation}


def build_records(
    facts: Sequence[SourceFact], seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """One record a fact, in the layout of Appendix B with paraphrase and neighbourhood prompts added.

    The counterfactual target is the object of another fact of the relation, drawn with the frequency objects have
    there, so that it is no rarer than true ones; all facts of a subject and relation get the same, so that no two
    edits contradict each other. It is never an object that the facts, in either direction and under any relation,
    give to a subject of that name. Neighbours are subjects with the same true object to which the counterfactual
    target does not belong either.

    Args:
        facts: in published order.
        seed: another one gives other targets and neighbours.
        progress: told how many records are made, of how many.
    """
    true, order = _true_objects(facts), sorted(range(len(facts)), key=lambda i: facts[i].relation)
    by_relation: dict[str, list[SourceFact]] = defaultdict(list)
    by_object: dict[tuple[str, str], list[str]] = defaultdict(list)
    for fact in facts:
        by_relation[fact.relation].append(fact)
        by_object[fact.relation, fact.object].append(fact.subject)
    around = {key: sorted(set(names), key=lambda name: seeded_key(seed, name)) for key, names in by_object.items()}
    records = []
    for case_id, position in enumerate(order):
        fact = facts[position]
        new = _counterfactual(fact, by_relation[fact.relation], true, seed)
        neighbours = _neighbours(fact, new, around[fact.relation, fact.object], true, seed)
        records.append(_record(case_id, fact, new, neighbours))
        if progress:
            progress(case_id + 1, len(facts))
    return records


def _true_objects(facts: Iterable[SourceFact]) -> dict[str, set[str]]:
    """Subject name -> casefolded names and ids of everything said of it, in either direction."""
    true: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        true[fact.subject] |= {fact.object.casefold(), fact.subject.casefold(), *filter(None, [fact.object_id])}
        if fact.relation in _INVERSE:
            true[fact.object].add(fact.subject.casefold())
    return true


def _counterfactual(fact: SourceFact, known: Sequence[SourceFact], true: dict[str, set[str]], seed: int) -> str:
    said = true[fact.subject]
    start = int(seeded_key(seed, f"{fact.relation}/{fact.subject}")[:12], 16) % len(known)
    for step in range(len(known)):
        other = known[(start + step) % len(known)]
        if not said & {other.object.casefold(), other.object_id} and not _one_names_the_other(other.object, said):
            return other.object
    raise UsageError(f"relation {fact.relation}: no object is left that is not true of {fact.subject!r}")


def _one_names_the_other(name: str, said: set[str]) -> bool:
    """Whether "Catholicism" meets "Roman Catholicism": likely the same thing, or a part of it."""
    words = set(name.casefold().split())
    return any(words <= other or other <= words for other in (set(text.split()) for text in said))


def _neighbours(fact: SourceFact, new: str, names: list[str], true: dict[str, set[str]], seed: int) -> list[str]:
    """Other subjects of the object, another stretch of their list for every subject."""
    start = bisect.bisect_left(names, seeded_key(seed, fact.subject), key=lambda name: seeded_key(seed, name))
    turned = names[start:] + names[:start]
    fit = (name for name in turned if name != fact.subject and new.casefold() not in true[name])
    return [name for name, _ in zip(fit, range(MAX_NEIGHBOURS), strict=False)]


def _record(case_id: int, fact: SourceFact, new: str, neighbours: list[str]) -> dict[str, Any]:
    asked = sentences()[fact.relation]

    def about(subject: str, sentence: str) -> str:
        return sentence.replace("{}", subject)

    return {
        "case_id": case_id,
        "requested_rewrite": {
            "prompt": asked.edit,
            "relation_id": f"{fact.relation}({asked.label})",
            "target_new": {"str": new},
            "target_true": {"str": fact.object},
            "subject": fact.subject,
        },
        "paraphrase_prompts": [about(fact.subject, sentence) for sentence in asked.paraphrases],
        "neighborhood_prompts": [
            about(name, asked.questions[number % len(asked.questions)]) for number, name in enumerate(neighbours)
        ],
        "generation_prompts": [about(fact.subject, sentence) for sentence in asked.generation],
    }


def distinct(facts: Iterable[SourceFact]) -> list[SourceFact]:
    """The facts without later repeats of subject, relation and object."""
    return list({(fact.subject, fact.relation, fact.object): fact for fact in facts}.values())


def write_records(records: Sequence[dict[str, Any]], out: Path) -> None:
    """Write a JSON list, a record a line; ``out`` is never half a file.

    Raises:
        UsageError: it cannot be written.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write("[\n")
            file.write(",\n".join(json.dumps(record, ensure_ascii=False) for record in records))
            file.write("\n]\n")
        os.replace(part, out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from None


_ARTICLE = re.compile(r"\ba (?=[aeiou])|\ban (?=[bcdfgjklmnpqrstvwxyz])")


def grammar_faults(record: dict[str, Any]) -> list[str]:
    """What a reader would stumble over in a record's own prompts; names are taken as they are published.

    Doubled or outer spaces, "a" before a vowel, an article or punctuation at the end (the object follows), an absent
    subject, an empty target.
    """
    rewrite = record["requested_rewrite"]
    subject, faults = rewrite["subject"], []
    own = [rewrite["prompt"].replace("{}", subject), *record["paraphrase_prompts"], *record["generation_prompts"]]
    for prompt in (*own, *record["neighborhood_prompts"]):
        if "  " in prompt or prompt != prompt.strip():
            faults.append(f"spaces in {prompt!r}")
        if not prompt[-1].isalnum():
            faults.append(f"punctuation at the end of {prompt!r}")
        if prompt.rsplit(" ", 1)[-1] in ("a", "an"):
            faults.append(f"an article at the end of {prompt!r}")
    for prompt in own:
        if subject not in prompt:
            faults.append(f"the subject {subject!r} is not in {prompt!r}")
        if _ARTICLE.search(prompt.replace(subject, "{}")):
            faults.append(f"the wrong article in {prompt!r}")
    faults += [f"empty {name}" for name in ("target_new", "target_true") if not rewrite[name]["str"].strip()]
    return faults
