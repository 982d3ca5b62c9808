"""MQuAKE (Zhong et al. 2023): questions whose answer follows from a chain of facts, some of which are edited.

Read as its authors publish it (DeepEdit's harder selection of it too), and as AKEW does (Wu et al. 2024), where every
edit is told in a paragraph as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgt_editor.data import fields
from kgt_editor.data.base import DataSet
from kgt_editor.data.reading import read_rows
from kgt_editor.data.record import Probe, Record
from kgt_editor.errors import UsageError
from kgt_editor.graph.relations import verbalise
from kgt_editor.graph.triple import Triple

CONTRADICTS = "an edit contradicts an earlier case's"


@dataclass(frozen=True, slots=True)
class Edit:
    """One rewrite of a case.

    Attributes:
        subject, prompt, relation_id, target_new, target_true: as in a record.
        question: the edit prompt as a question.
        paragraph: the edit told in prose (AKEW); empty where the file has none.
    """

    subject: str
    prompt: str
    relation_id: str
    target_new: str
    target_true: str
    question: str
    paragraph: str

    @property
    def fact(self) -> tuple[str, str]:
        """What it is an edit of."""
        return self.subject, self.prompt


@dataclass(frozen=True, slots=True)
class Hop:
    """One fact of a chain.

    Attributes:
        cloze: a text that the answer follows.
        answers: the answer and its aliases.
    """

    cloze: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the file.

    Attributes:
        number: its case number.
        edits: what is edited.
        questions: the same question in several wordings.
        answers: what is right after the edits, with aliases.
        hops, new_hops: the chain of facts before and after the edits.
    """

    number: int
    edits: tuple[Edit, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    hops: tuple[Hop, ...]
    new_hops: tuple[Hop, ...]


def load_mquake(path: str | Path) -> DataSet:
    """Every different edit of the file as a record, its cases' questions with the last of their edits.

    A case's questions are one question in several wordings: it counts as answered where one of them is, as its authors
    count. They are asked once all edits of the case are in force. All records are reported ones: the cases share their
    facts, so that no part of them could be set aside. Cases with an edit that contradicts an earlier case's are left
    out and counted in ``skipped``.

    Raises:
        UsageError: the file cannot be read, or a case is broken.
    """
    cases = list(read_cases(path))
    prompts = _relations(cases)
    numbers: dict[tuple[str, str], int] = {}
    edits: list[Edit] = []
    probes: dict[int, list[Probe]] = {}
    skipped: Counter[str] = Counter()
    for case in cases:
        if any(edit.target_new != edits[numbers[edit.fact]].target_new for edit in case.edits if edit.fact in numbers):
            skipped[CONTRADICTS] += 1
            continue
        for edit in case.edits:
            if numbers.setdefault(edit.fact, len(edits)) == len(edits):
                edits.append(edit)
        needs = tuple(numbers[edit.fact] for edit in case.edits)
        probes.setdefault(max(needs), []).extend(_questions(case, needs, _chain(case, prompts)))
    records = tuple(_record(number, edit, tuple(probes.get(number, ()))) for number, edit in enumerate(edits))
    if not records:
        raise UsageError(f"{path}: holds no edits")
    return DataSet("mquake", records, all_records=records, skipped=skipped).hashed()


def _record(number: int, edit: Edit, probes: tuple[Probe, ...]) -> Record:
    return Record(
        case_id=number,
        subject=edit.subject,
        relation_id=edit.relation_id,
        prompt=edit.prompt,
        target_new=edit.target_new,
        target_true=edit.target_true,
        paraphrase_prompts=(edit.question,),
        probes=probes,
    )


def _questions(case: Case, needs: tuple[int, ...], relations: tuple[str, ...] = ()) -> Iterator[Probe]:
    kind, group = f"{len(case.new_hops)}_Hops", str(case.number)
    for question in case.questions:
        yield Probe(kind, question, case.answers, True, group=group, needs=needs, relations=relations)


def records_of(case: Case) -> Iterator[Record]:
    """The edits of one case, the last one with its questions."""
    last = len(case.edits) - 1
    for number, edit in enumerate(case.edits):
        yield _record(number, edit, tuple(_questions(case, tuple(range(last + 1)))) if number == last else ())


def read_cases(path: str | Path) -> Iterator[Case]:
    """The cases of a file, in its order.

    Raises:
        UsageError: the file cannot be read, or a case is broken.
    """
    for position, (where, row) in enumerate(read_rows(path)):
        yield parse_case(row, where, position)


def parse_case(row: Any, where: str, position: int) -> Case:
    """One case.

    Raises:
        UsageError: a field is missing or not what it should be.
    """
    row = fields.an_object(row, where)
    listed = _listed(row, "requested_rewrite", where)
    return Case(
        number=fields.number(row, "case_id", where, position) or 0,
        edits=tuple(_edit(one, f"{where}, requested_rewrite {number}") for number, one in enumerate(listed)),
        questions=fields.texts(row, "questions", where),
        answers=(fields.text(row, "new_answer", where), *fields.texts(row, "new_answer_alias", where)),
        hops=_hops(row, "single_hops", where),
        new_hops=_hops(row, "new_single_hops", where),
    )


def _edit(one: Any, where: str) -> Edit:
    one = fields.an_object(one, where)
    prompt = fields.text(one, "prompt", where)
    if prompt.count("{}") != 1:
        raise UsageError(f"{where}: field 'prompt': {prompt!r} must hold '{{}}' exactly once, for the subject")
    return Edit(
        subject=fields.text(one, "subject", where),
        prompt=prompt,
        relation_id=fields.optional_text(one, "relation_id", where),
        target_new=fields.text(fields.mapping(one, "target_new", where), "str", where),
        target_true=fields.text(fields.mapping(one, "target_true", where), "str", where),
        question=fields.text(one, "question", where),
        paragraph=fields.optional_text(one, "fact_new_uns", where),
    )


def _hops(row: Mapping[str, Any], field: str, where: str) -> tuple[Hop, ...]:
    found = []
    for number, one in enumerate(_listed(row, field, where)):
        place = f"{where}, {field} {number}"
        one = fields.an_object(one, place)
        answers = (fields.text(one, "answer", place), *fields.texts(one, "answer_alias", place))
        found.append(Hop(fields.text(one, "cloze", place), answers))
    return tuple(found)


def _listed(row: Mapping[str, Any], field: str, where: str) -> list[Any]:
    listed = row.get(field)
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"{where}: field '{field}' is {'missing' if listed is None else 'not a list, or empty'}")
    return listed


def unedited_triples(path: str | Path) -> Iterator[Triple]:
    """What the file says besides its edits, as triples: the facts of its chains, for a base graph.

    A fact is a text with its answer; head and relation are those of the rewrite prompt that it is a filling of. Facts
    whose wording no rewrite of the file has are left out, and so are those that an edit gives.

    Raises:
        UsageError: the file cannot be read, or a case is broken.
    """
    cases = list(read_cases(path))
    prompts = _relations(cases)
    edited = {(edit.prompt.replace("{}", edit.subject), edit.target_new) for case in cases for edit in case.edits}
    for hop in dict.fromkeys(hop for case in cases for hop in (*case.hops, *case.new_hops)):
        if (hop.cloze, hop.answers[0]) in edited:
            continue
        filled = _filled(hop.cloze, prompts)
        if filled:
            subject, relation = filled
            yield Triple(subject, verbalise(relation), hop.answers[0])


def _relations(cases: Iterable[Case]) -> dict[str, str]:
    """Rewrite prompt -> label of its relation, where the file names one."""
    return {edit.prompt: edit.relation_id for case in cases for edit in case.edits if edit.relation_id}


def _chain(case: Case, prompts: Mapping[str, str]) -> tuple[str, ...]:
    """The relations that lead to the case's new answer; none where one of them is not known."""
    filled = [_filled(hop.cloze, prompts) for hop in case.new_hops]
    return tuple(one[1] for one in filled if one) if all(filled) else ()


def _filled(cloze: str, prompts: Mapping[str, str]) -> tuple[str, str] | None:
    """Subject and relation of the prompt that ``cloze`` is a filling of; of several the one with the most words."""
    found = [(subject, prompts[prompt]) for prompt in prompts if (subject := _subject(cloze, prompt))]
    return min(found, key=lambda one: len(one[0]), default=None)


def _subject(cloze: str, prompt: str) -> str:
    """What fills the prompt in ``cloze``; empty where it is no filling of it."""
    before, after = prompt.split("{}")
    if not (cloze.startswith(before) and cloze.endswith(after)):
        return ""
    return cloze[len(before) : len(cloze) - len(after)].strip()
