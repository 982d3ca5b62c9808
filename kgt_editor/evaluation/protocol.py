"""How a cell is run: one editor on one seeded sequence of records."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kgt_editor.data.base import KnownFact
from kgt_editor.data.record import Record
from kgt_editor.editors.base import Editor, Restore, restore_model
from kgt_editor.errors import KgtError
from kgt_editor.evaluation.answers import say
from kgt_editor.evaluation.metrics import CaseScores, evaluate, recall, scorer
from kgt_editor.evaluation.results import CaseResult, CellResult
from kgt_editor.lm.device_memory import device_memory
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.meter import Measured, measure, tidy

MODES = ("sequential", "single")
WARM_UP_EDITS = 2
CASES_A_BATCH = 512  # cases evaluated, then written, together: the more, the more of their texts they share
FACTS_AFTER_EACH_EDIT = 5
FORWARD_PROMPTS = 20
REQUEST_FIELDS = ("query", "subject", "relation_id", "target_new", "target_true")

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CellPlan:
    """What a cell edits and evaluates.

    Attributes:
        records: in the order of editing.
        known_facts: asked for ``unedited_recall``.
        warm_up: edits made and undone before anything is timed.
        mode: ``sequential`` or ``single``.
        seed: of Python's, numpy's and torch's global generators.
        batch_size: texts a forward pass of the evaluation, at most; None: as many as the device uses well.
    """

    records: Sequence[Record]
    known_facts: Sequence[KnownFact]
    warm_up: Sequence[Record]
    mode: str
    seed: int
    batch_size: int | None = None

    @property
    def queries(self) -> frozenset[str]:
        """Edit prompts of the run: as neighbourhood prompt or known fact they would be changed on purpose."""
        return frozenset(record.query for record in self.records)

    @property
    def untouched_facts(self) -> list[KnownFact]:
        """The known facts without those the run edits."""
        return [fact for fact in self.known_facts if fact.prompt not in self.queries]


class BaseWeights:
    """A copy of a model's weights and of its answer to a probe, to start every cell from the same model."""

    def __init__(self, model: Any, tok: Any) -> None:
        self._saved = {name: value.detach().to("cpu", copy=True) for name, value in _tensors(model)}
        self._trainable = {name: value.requires_grad for name, value in model.named_parameters()}
        self._probe = tok("The town of", return_tensors="pt").input_ids.to(device_of(model))
        self._answer = self._ask(model)

    def restore(self, model: Any) -> None:
        """Write the saved weights back.

        Raises:
            KgtError: the model is not what it was: another set of tensors, or hooks that change its answers.
        """
        with torch.no_grad():
            for name, value in _tensors(model):
                if name in self._saved and self._saved[name].shape == value.shape:
                    value.copy_(self._saved[name])
        for name, value in model.named_parameters():
            value.requires_grad_(self._trainable.get(name, False))
            value.grad = None
        model.eval()
        changed = self.difference(model)
        if changed:
            raise KgtError(f"the base model cannot be brought back: {changed}")

    def difference(self, model: Any) -> str | None:
        """What is not bit for bit as it was; None where everything is."""
        found = dict(_tensors(model))
        for name in found.keys() ^ self._saved.keys():
            return f"{name} was {'added' if name in found else 'removed'}"
        for name, value in found.items():
            if not _same_bits(value.detach().cpu(), self._saved[name]):
                return f"{name} differs"
        return None if _same_bits(self._ask(model), self._answer) else "the weights are the same, its answers are not"

    @torch.no_grad()
    def _ask(self, model: Any) -> Tensor:
        logits: Tensor = model(self._probe).logits
        return logits.cpu()


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _same_bits(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return torch.equal(left.reshape(-1).view(torch.uint8), right.reshape(-1).view(torch.uint8))


def run_cell(
    editor: Editor,
    name: str,
    model: Any,
    tok: Any,
    plan: CellPlan,
    base: BaseWeights,
    on_case: Callable[[CaseResult], None],
    advance: Advance,
) -> CellResult:
    """Edit and evaluate; the model is left as the editor leaves it, see :meth:`BaseWeights.restore`.

    Sequential: every record is edited once, in order, and all are evaluated after the last edit. Single: edit,
    evaluate, undo, for one record after the other. A record whose edit raises a ``KgtError`` is evaluated on the model
    as it is and counted as failed.

    Args:
        name: the row's name, which may carry a preset.
        on_case: called once a record, as soon as it is measured; on an early end also for records that were edited
            but not yet evaluated.
        advance: progress, ``(stage, done, total)``.

    Raises:
        KgtError: the editor cannot undo its edits, or none of them succeeded.
    """
    _seed_everything(plan.seed)
    tidy(device_of(model))
    _warm_up(editor, model, tok, plan.warm_up)
    _check_undone(name, model, base)
    cell = CellResult(name, plan.seed)

    def finish(case: CaseResult) -> None:
        cell.cases.append(case)
        on_case(case)

    _seed_everything(plan.seed)
    if plan.mode == "sequential":
        _sequential(editor, model, tok, plan, cell, finish, advance)
    else:
        _single(editor, model, tok, plan, cell, finish, advance)
        _check_undone(name, model, base)
    if cell.failed_edits == len(cell.cases):
        # The row would be the no-edit row under another name.
        raise KgtError(f"all {cell.failed_edits} edits failed, the first because: {cell.cases[0].failure}")
    return cell


def _sequential(
    editor: Editor,
    model: Any,
    tok: Any,
    plan: CellPlan,
    cell: CellResult,
    finish: Callable[[CaseResult], None],
    advance: Advance,
) -> None:
    edits: list[tuple[float | None, str | None, dict[str, Any] | None]] = []
    total = len(plan.records)
    try:
        for record in plan.records:
            done, failure = _edit(editor, model, tok, record, undo=False)
            if done:
                model = done.value[0]
                cell.peak_memory_bytes = max(cell.peak_memory_bytes, done.peak_bytes)
            edits.append((done.seconds if done else None, failure, editor.edit_details() if done else None))
            advance("editing", len(edits), total)
        cell.device_memory = device_memory(device_of(model))
        score = scorer(model, tok, plan.batch_size)
        for start in range(0, total, CASES_A_BATCH):
            chunk = plan.records[start : start + CASES_A_BATCH]
            found = evaluate(score, chunk, plan.queries)
            said = _said(model, tok, chunk, found)
            for position, record, scores, answer in zip(range(start, total), chunk, found, said, strict=False):
                finish(_case(record, position, *edits[position], scores, answer))
            advance("evaluating", len(cell.cases), total)
        cell.recalled = recall(score, plan.untouched_facts)
    finally:
        for position in range(len(cell.cases), len(edits)):
            finish(_case(plan.records[position], position, *edits[position], None))


def _single(
    editor: Editor,
    model: Any,
    tok: Any,
    plan: CellPlan,
    cell: CellResult,
    finish: Callable[[CaseResult], None],
    advance: Advance,
) -> None:
    facts = cycle(plan.untouched_facts)
    for position, record in enumerate(plan.records):
        done, failure = _edit(editor, model, tok, record)
        edited = done.value[0] if done else model
        score = scorer(edited, tok, plan.batch_size)
        (scores,) = evaluate(score, [record], plan.queries)
        (said,) = _said(edited, tok, [record], [scores])
        details = editor.edit_details() if done else None
        # All facts after every edit would cost more than the edits; the next few in turn estimate the same mean.
        hits = recall(score, list(islice(facts, FACTS_AFTER_EACH_EDIT)))
        cell.recalled += hits
        if done:
            cell.peak_memory_bytes = max(cell.peak_memory_bytes, done.peak_bytes)
            restore_model(edited, done.value[1])
        seconds = done.seconds if done else None
        finish(_case(record, position, seconds, failure, details, scores, said, tuple(hits)))
        advance("editing and evaluating", position + 1, len(plan.records))


def _case(
    record: Record,
    position: int,
    seconds: float | None,
    failure: str | None,
    details: dict[str, Any] | None,
    scores: CaseScores | None,
    said: str | None = None,
    recalled: tuple[bool, ...] = (),
) -> CaseResult:
    request = {name: getattr(record, name) for name in REQUEST_FIELDS}
    return CaseResult(record.case_id, position, seconds, failure, scores, recalled, request, said, details)


def _said(model: Any, tok: Any, records: Sequence[Record], scores: Sequence[CaseScores]) -> list[str | None]:
    """The greedy answers in words; where the scores say that it is one of the two targets, nothing is generated."""
    answers: list[str | None] = [
        record.target_new if found.edit.new.greedy else record.target_true if found.edit.true.greedy else None
        for record, found in zip(records, scores, strict=True)
    ]
    open_ = [index for index, answer in enumerate(answers) if answer is None]
    for index, answer in zip(open_, say(model, tok, [records[index].query for index in open_]), strict=True):
        answers[index] = answer
    return answers


def _edit(
    editor: Editor, model: Any, tok: Any, record: Record, undo: bool = True
) -> tuple[Measured[tuple[Any, Restore]] | None, str | None]:
    request = record.request()
    try:
        return measure(lambda: editor.apply(model, tok, [request], return_orig_weights=undo), device_of(model)), None
    except KgtError as error:
        return None, str(error)


def _warm_up(editor: Editor, model: Any, tok: Any, records: Sequence[Record]) -> None:
    for record in records[:WARM_UP_EDITS]:
        done, _ = _edit(editor, model, tok, record)
        if done:
            restore_model(*done.value)


def _check_undone(name: str, model: Any, base: BaseWeights) -> None:
    changed = base.difference(model)
    if changed:
        raise KgtError(f"editor '{name}' did not undo its own edit: {changed}")


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@torch.no_grad()
def plain_inference(model: Any, tok: Any, records: Sequence[Record]) -> tuple[float, int]:
    """Median seconds of one forward pass on an edit prompt, and the peak memory of such passes in bytes."""
    tidy(device_of(model))
    prompts = [record.query for record in records[:FORWARD_PROMPTS]]
    batches = [tok(prompt, return_tensors="pt").to(device_of(model)) for prompt in prompts]
    for batch in batches[:WARM_UP_EDITS]:
        model(**batch)
    passes = [measure(partial(model, **batch), device_of(model)) for batch in batches]
    return float(np.median([one.seconds for one in passes])), max(one.peak_bytes for one in passes)
