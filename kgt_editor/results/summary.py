"""From the measured cells to the rows of ``summary.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from kgt_editor.results.outcomes import count, outcome_of
from kgt_editor.results.schema import CASE_METRICS, NO_SHARES, CellResult
from kgt_editor.results.statistics import forwards, latency, mean_interval, share_interval


@dataclass
class CellNumbers:
    """What the summary needs of an editor with a seed after a number of edits.

    Attributes:
        case_ids: the cases, in the order of editing.
        metrics: every metric's value for each of them; None where a case has no such prompt or was not evaluated.
        seconds: an edit's wall time for each of them; None where it failed.
        failures: why edits failed, in order.
        outcomes: what became of each edit, see :mod:`kgt_editor.results.outcomes`; None where that is not said.
        silence: how many prompts were ``asked`` that no edit is to change, and to how many of them the unedited model
            was ``silent``.
        undecided: how many prompts were ``asked`` by probability, and how many of them were ``tied`` or ``not_finite``.
        kinds: of each kind of other questions how many were ``asked``, and answered rightly (``greedy``, ``contains``).
        superseded: how many edits a later one takes back, see :class:`kgt_editor.evaluation.edited.Edited`.
        cell: the cell's line of ``cells.jsonl``.
    """

    editor: str
    seed: int
    size: int
    case_ids: list[int] = field(default_factory=list)
    metrics: dict[str, list[float | None]] = field(default_factory=lambda: {name: [] for name in CASE_METRICS})
    seconds: list[float | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    outcomes: list[str | None] = field(default_factory=list)
    silence: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    superseded: int = 0
    cell: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: CellResult, normalise: str) -> CellNumbers:
        """The numbers of a cell that is in memory."""
        numbers = cls(cell.editor, cell.seed, cell.size)
        for case in cell.cases:
            metrics = case.scores.metrics(normalise) if case.scores else None
            if case.scores:
                numbers.silence.update(case.scores.silence())
                numbers.undecided.update(case.scores.undecided(normalise))
                numbers.superseded += case.scores.superseded
                numbers.count_kinds(case.scores.kinds())
            numbers.add(case.case_id, metrics, case.edit_seconds, case.failure, outcome_of(case.details))
        numbers.cell = {
            "recalled": cell.recalled,
            "peak_memory_bytes": cell.peak_memory_bytes,
            "device_memory": cell.device_memory,
        }
        return numbers

    def count_kinds(self, kinds: Mapping[str, Mapping[str, int]]) -> None:
        """Take in a case's other questions."""
        for kind, counts in kinds.items():
            self.kinds.setdefault(kind, Counter()).update(counts)

    def add(
        self,
        case_id: int,
        metrics: Mapping[str, float | None] | None,
        seconds: float | None,
        failure: str | None,
        outcome: str | None = None,
    ) -> None:
        """Take in the next case."""
        self.case_ids.append(case_id)
        for name, values in self.metrics.items():
            values.append(metrics.get(name) if metrics else None)
        self.seconds.append(seconds)
        self.outcomes.append(outcome)
        if failure is not None:
            self.failures.append(failure)


def read_numbers(
    cells: Iterable[Mapping[str, Any]], records: Iterable[Mapping[str, Any]]
) -> dict[tuple[str, int], list[CellNumbers]]:
    """The numbers of a run by editor and number of edits: a cell a seed, the lowest seed first.

    Args:
        cells: the lines of ``cells.jsonl``; records of other cells are left out.
        records: the lines of ``records.jsonl``, read once and not kept.
    """
    found = {
        (cell["editor"], cell["seed"], cell["size"]): CellNumbers(cell["editor"], cell["seed"], cell["size"], cell=cell)
        for cell in cells
    }
    for line in records:
        numbers = found.get((line["editor"], line["seed"], line["size"]))
        if numbers is not None:
            raw = line.get("raw") or {}
            numbers.silence.update(raw.get("silence") or {})
            numbers.undecided.update(raw.get("undecided") or {})
            numbers.superseded += bool(raw.get("superseded"))
            numbers.count_kinds(raw.get("kinds") or {})
            outcome = outcome_of(line["details"])
            numbers.add(line["case_id"], line["metrics"], line["edit_seconds"], line["failure"], outcome)
    by_row: dict[tuple[str, int], list[CellNumbers]] = {}
    for numbers in sorted(found.values(), key=lambda one: one.seed):
        by_row.setdefault((numbers.editor, numbers.size), []).append(numbers)
    return by_row


def summary_row(cells: Sequence[CellNumbers], **facts: Any) -> dict[str, Any]:
    """The complete cells of one editor after one number of edits as a row of ``summary.json``.

    A metric's interval is over seeds, or over cases where there is one seed (see
    :func:`kgt_editor.results.statistics.share_interval`); a metric no record has a prompt for is null.
    ``edit_seconds`` leaves failed edits out, ``failed_edits`` counts them and ``first_failure`` says why;
    ``superseded_edits`` counts those that the efficacy and paraphrase metrics leave out. ``edit_outcomes`` counts what
    became of the edits, over all seeds; null where the editor does not say. ``silence`` counts the prompts behind
    ``same_subject_kept`` and ``neighbourhood_kept``, and those of them to which the unedited model says nothing.
    ``undecided`` counts the prompts asked by probability, the ties among them, which the scores leave out, and those
    without a finite probability; ``kinds`` counts the other questions of each kind and those answered rightly, by the
    model's first choice token by token (``greedy``) and in what it writes by itself (``contains``). ``dead`` says in a
    word that half of what was asked by probability or more was undecided, see :func:`dead`; null otherwise.
    """
    metrics: dict[str, Any] = {}
    for name in CASE_METRICS:
        judged = [
            [(case, x) for case, x in zip(cell.case_ids, cell.metrics[name], strict=True) if x is not None]
            for cell in cells
        ]
        values = [[x for _, x in one] for one in judged]
        distinct = len({case for one in judged for case, _ in one})
        metrics[name] = mean_interval(values) if name in NO_SHARES else share_interval(values, distinct)
    metrics["unedited_recall"] = share_interval([[float(hit) for hit in cell.cell["recalled"]] for cell in cells])
    failures = [failure for cell in cells for failure in cell.failures]
    counted = [cell.cell["device_memory"] for cell in cells if cell.cell.get("device_memory")]
    seconds = latency([[x for x in cell.seconds if x is not None] for cell in cells])
    costs = costs_of([cell.cell for cell in cells])
    undecided = {name: sum(cell.undecided[name] for cell in cells) for name in ("asked", "tied", "not_finite")}
    return {
        "editor": cells[0].editor,
        **facts,
        "size": cells[0].size,
        "seeds": [cell.seed for cell in cells],
        "metrics": {name: interval and asdict(interval) for name, interval in metrics.items()},
        "edit_seconds": seconds,
        "edit_forwards": forwards(seconds, costs.get("forward_seconds")),
        "peak_memory_bytes": max(cell.cell["peak_memory_bytes"] for cell in cells),
        "device_memory": max(counted, key=lambda one: one["used"], default=None),
        "failed_edits": len(failures),
        "first_failure": failures[0] if failures else None,
        "superseded_edits": sum(cell.superseded for cell in cells),
        "silence": {name: sum(cell.silence[name] for cell in cells) for name in ("asked", "silent")},
        "undecided": undecided,
        "dead": dead(undecided),
        "kinds": _kinds(cells),
        "edit_outcomes": count(outcome for cell in cells for outcome in cell.outcomes),
        **costs,
    }


def _kinds(cells: Sequence[CellNumbers]) -> dict[str, dict[str, int]]:
    total: dict[str, Counter[str]] = {}
    for cell in cells:
        for kind, counts in cell.kinds.items():
            total.setdefault(kind, Counter()).update(counts)
    return {kind: dict(total[kind]) for kind in sorted(total, reverse=True)}  # portability first


def dead(undecided: Mapping[str, int]) -> str | None:
    """Why a model cannot be said to answer at all: ``NaN``, or ``uniform`` where every answer is as likely.

    None where it has a preference on more than half of the prompts that were asked by probability. A destroyed model
    that has one, for whichever answer, is not dead in this sense: its scores are those of a coin.
    """
    if not undecided["asked"]:
        return None
    if 2 * undecided["not_finite"] >= undecided["asked"]:
        return "NaN"
    return "uniform" if 2 * (undecided["tied"] + undecided["not_finite"]) >= undecided["asked"] else None


def costs_of(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What plain inference and the preparation took, where the lines of ``cells.jsonl`` say so.

    A cell that found its preparation in the cache says how long reading that took: the longest is the preparation's.
    """
    costs = {name: [cell[name] for cell in cells if cell.get(name) is not None] for name in _TAKE}
    return {name: _TAKE[name](values) for name, values in costs.items() if values}


_TAKE: dict[str, Any] = {
    "forward_seconds": median,
    "inference_memory_bytes": median,
    "preparation_seconds": max,
    "state_bytes": max,
}
