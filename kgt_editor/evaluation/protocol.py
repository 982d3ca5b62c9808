"""How a cell is run: one editor on one seeded sequence of records."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from kgt_editor.data.base import KnownFact
from kgt_editor.data.record import Record
from kgt_editor.editors.base import Editor, Restore, restore_model
from kgt_editor.errors import KgtError, one_line
from kgt_editor.evaluation.base_weights import BaseWeights
from kgt_editor.evaluation.edited import Edited
from kgt_editor.evaluation.free_text import FreeText, References, write
from kgt_editor.evaluation.generated import generate
from kgt_editor.evaluation.kept import CASES_TOGETHER, BaseAnswers, groups, untouched
from kgt_editor.evaluation.metrics import CaseScores, evaluate, recall
from kgt_editor.evaluation.probed import ask
from kgt_editor.evaluation.scorer import Scorer, scorer
from kgt_editor.lm.device_memory import device_memory
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.meter import Measured, measure, tidy
from kgt_editor.lm.passes import out_of_memory
from kgt_editor.progress import Advance
from kgt_editor.results.cell_log import CellLog
from kgt_editor.results.outcomes import outcome_of
from kgt_editor.results.schema import CaseResult, EditResult

WARM_UP_EDITS = 2
# Cases evaluated, then written, together: the more, the more of their texts they share.
CASES_A_BATCH = 16 * CASES_TOGETHER
FACTS_AFTER_EACH_EDIT = 5
REQUEST_FIELDS = ("query", "subject", "relation_id", "target_new", "target_true")


class SpoiledCellError(KgtError):
    """What a cell has measured says nothing about its editor; given again, it begins with the first edit."""


@dataclass(frozen=True)
class CellPlan:
    """What a cell edits and evaluates.

    Attributes:
        records: in the order of editing.
        known_facts: asked for ``unedited_recall``.
        warm_up: edits made and undone before anything is timed.
        mode: ``sequential`` or ``single``.
        seed: of Python's, numpy's and torch's global generators.
        sizes: the numbers of edits after which everything edited so far is evaluated, growing; the last one is
            that of ``records``. Empty for that one alone. Single mode knows no other.
        batch_size: texts a forward pass of the evaluation, at most; None: as many as the device uses well.
        references: of the records; with them longer texts are written and judged.
    """

    records: Sequence[Record]
    known_facts: Sequence[KnownFact]
    warm_up: Sequence[Record]
    mode: str
    seed: int
    sizes: tuple[int, ...] = ()
    batch_size: int | None = None
    references: References | None = None

    @property
    def stops(self) -> tuple[int, ...]:
        """``sizes``, spelt out."""
        return self.sizes or (len(self.records),)

    def edited(self, size: int) -> Edited:
        """What the first ``size`` edits change on purpose: the same neighbourhood prompts in either mode."""
        return Edited(self.records[:size], one_by_one=self.mode == "single")

    def untouched_facts(self, size: int) -> list[KnownFact]:
        """The known facts without those that the first ``size`` edits touch."""
        edited = frozenset(record.query for record in self.records[:size])
        return [fact for fact in self.known_facts if fact.prompt not in edited]

    def batches(self, size: int) -> list[tuple[int, Sequence[Record]]]:
        """The cases that are evaluated together after ``size`` edits, each batch with the position of its first.

        They are the same wherever an earlier process left off.
        """
        step = 1 if self.mode == "single" else CASES_A_BATCH
        return [(start, self.records[start : min(start + step, size)]) for start in range(0, size, step)]

    def ask_before(self, model: Any, tok: Any, before: BaseAnswers, advance: Advance) -> None:
        """Ask the model, which nothing has been edited in, for the answers that the edits are to leave alone."""
        for size in self.stops:
            edited = self.edited(size)
            wanted = [group for _, some in self.batches(size) for group in groups(some, edited)]
            before.ask(model, tok, wanted, advance)


def run_cell(
    editor: Editor,
    model: Any,
    tok: Any,
    plan: CellPlan,
    base: BaseWeights,
    log: CellLog,
    advance: Advance,
    before: BaseAnswers | None = None,
) -> None:
    """Edit and evaluate; the model is left as the editor leaves it, see :meth:`BaseWeights.restore`.

    Sequential: every record is edited once, in order, and after each of the plan's sizes all records edited so far are
    evaluated. Single: edit, evaluate, undo, for one record after the other. A record whose edit raises an error,
    whichever it is, is evaluated on the model as it is and counted as failed; only where memory gives out does the
    cell end. The generators of random numbers are set anew before every edit, so that it does not matter what came
    before it, and where an earlier process left off.

    Args:
        model: the base model.
        log: takes in what is measured, as soon as it is; what it holds already is not measured again.
        advance: progress, ``(stage, done, total)``.
        before: what the base model says without any edit; it is asked here where it has not been.

    Raises:
        SpoiledCellError: the editor cannot undo its edits, or none of them succeeded.
        KgtError: an edit needs more memory than there is.
    """
    if before is None:
        before = BaseAnswers()
        plan.ask_before(model, tok, before, advance)
    _seed_everything(plan.seed)
    tidy(device_of(model))
    _warm_up(editor, model, tok, plan.warm_up)
    _check_undone(log.editor, model, base)
    if plan.mode == "sequential":
        _sequential(editor, model, tok, plan, log, advance, before)
    else:
        _single(editor, model, tok, plan, base, log, advance, before)
        _check_undone(log.editor, model, base)


def _sequential(
    editor: Editor, model: Any, tok: Any, plan: CellPlan, log: CellLog, advance: Advance, before: BaseAnswers
) -> None:
    total = len(plan.records)
    model = log.resume(editor, model, tok)
    for size in plan.stops:
        for position in range(len(log.edits), size):
            done, edit = _edit(editor, model, tok, plan, position)
            model = done.value[0] if done else model
            log.edited(edit)
            advance("editing", position + 1, total)
            log.checkpoint(editor, model)
        if size in log.finished:
            continue
        if size == total:
            _check_some_succeeded(log)
        log.checkpoint(editor, model, now=True)
        _evaluate(model, tok, plan, size, log, advance, before)
        if size < total:
            tidy(device_of(model))  # the evaluation's memory is not to count for the edits that follow


def _evaluate(
    model: Any, tok: Any, plan: CellPlan, size: int, log: CellLog, advance: Advance, before: BaseAnswers
) -> None:
    """All cases of the first ``size`` edits that have not been evaluated yet."""
    memory = device_memory(device_of(model))
    score, edited = scorer(model, tok, plan.batch_size), plan.edited(size)
    done = log.evaluated(size)
    for start, chunk in plan.batches(size):
        if start < done:  # by an earlier process, which kept whole batches only
            continue
        found = _judge(score, model, tok, chunk, edited, before, plan.references)
        edits = log.edits_with_details(start, start + len(chunk))
        log.add(size, [_case(*parts) for parts in zip(chunk, edits, found, strict=True)])
        advance("evaluating", start + len(chunk), size)
    log.finish(size, recall(score, plan.untouched_facts(size)), asdict(memory) if memory else None)


def _single(
    editor: Editor,
    model: Any,
    tok: Any,
    plan: CellPlan,
    base: BaseWeights,
    log: CellLog,
    advance: Advance,
    before: BaseAnswers,
) -> None:
    size = len(plan.records)
    facts, purpose = plan.untouched_facts(size), plan.edited(size)
    log.rewind(log.evaluated(size))
    for position in range(log.evaluated(size), size):
        record = plan.records[position]
        done, edit = _edit(editor, model, tok, plan, position, undo=True)
        if done is None and base.difference(model):  # an editor that stopped half way
            base.restore(model)
        edited = done.value[0] if done else model
        score = scorer(edited, tok, plan.batch_size)
        (scores,) = _judge(score, edited, tok, [record], purpose, before, plan.references)
        # All facts after every edit would cost more than the edits; the next few in turn estimate the same mean.
        first = FACTS_AFTER_EACH_EDIT * position
        asked = [facts[number % len(facts)] for number in range(first, first + FACTS_AFTER_EACH_EDIT) if facts]
        hits = recall(score, asked)
        if done:
            restore_model(edited, done.value[1])
        log.edited(edit)
        log.add(size, [_case(record, edit, scores, tuple(hits))])
        advance("editing and evaluating", position + 1, size)
    if size not in log.finished:
        _check_some_succeeded(log)
        log.finish(size, log.recalled(size))


def _judge(
    score: Scorer,
    model: Any,
    tok: Any,
    records: Sequence[Record],
    edited: Edited,
    before: BaseAnswers,
    references: References | None,
) -> list[CaseScores]:
    """Everything that is measured of ``records`` under one model."""
    free = write(model, tok, records, references) if references else [FreeText() for _ in records]
    parts = zip(
        evaluate(score, records, edited),
        untouched(model, tok, records, edited, before),
        generate(model, tok, records),
        free,
        ask(score, model, tok, records, edited),
        strict=True,
    )
    return [
        replace(scores, untouched=kept, generated=written, free_text=text, probed=probed)
        for scores, kept, written, text, probed in parts
    ]


def _case(record: Record, edit: EditResult, scores: CaseScores, recalled: tuple[bool, ...] = ()) -> CaseResult:
    request = {name: getattr(record, name) for name in REQUEST_FIELDS}
    said = scores.generated.edit.text if scores.generated.edit else None
    measured = (edit.position, edit.seconds, edit.failure, scores, recalled, request, said, edit.details)
    return CaseResult(record.case_id, *measured)


def _edit(
    editor: Editor, model: Any, tok: Any, plan: CellPlan, position: int, undo: bool = False
) -> tuple[Measured[tuple[Any, Restore]] | None, EditResult]:
    """One edit and what it cost; nothing where it failed.

    Raises:
        KgtError: out of memory, or the editor gives an outcome that there is not.
    """
    record = plan.records[position]
    _seed_everything(plan.seed, position)
    try:
        done = _apply(editor, model, tok, record, undo)
    except Exception as error:
        reason = one_line(error)
        if out_of_memory(error):
            raise KgtError(f"edit {position} (case {record.case_id}) ran out of memory: {reason}") from error
        return None, EditResult(position, record.case_id, None, reason, 0, None)
    details = editor.edit_details()
    outcome_of(details)
    return done, EditResult(position, record.case_id, done.seconds, None, done.peak_bytes, details)


def _apply(editor: Editor, model: Any, tok: Any, record: Record, undo: bool) -> Measured[tuple[Any, Restore]]:
    request = record.request()
    return measure(lambda: editor.apply(model, tok, [request], return_orig_weights=undo), device_of(model))


def _warm_up(editor: Editor, model: Any, tok: Any, records: Sequence[Record]) -> None:
    for record in records[:WARM_UP_EDITS]:
        try:
            done = _apply(editor, model, tok, record, undo=True)
        except Exception as error:
            if out_of_memory(error):
                raise
        else:
            restore_model(*done.value)


def _check_undone(name: str, model: Any, base: BaseWeights) -> None:
    changed = base.difference(model)
    if changed:
        raise SpoiledCellError(f"editor '{name}' did not undo its own edit: {changed}")


def _check_some_succeeded(log: CellLog) -> None:
    """The row would be the no-edit row under another name."""
    if len(log.failed) == len(log.edits):
        raise SpoiledCellError(f"all {len(log.edits)} edits failed, the first because: {log.edits[0].failure}")


def _seed_everything(*parts: int) -> None:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    value = int.from_bytes(digest[:4], "big")
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
