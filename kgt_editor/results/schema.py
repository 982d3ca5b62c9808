"""The one place where it is written down what a run keeps: an edit, a case, a cell, and the lines of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict

from kgt_editor.errors import UsageError

CASE_METRICS = (
    "efficacy_score",
    "paraphrase_score",
    "neighbourhood_score",
    "efficacy_accuracy",
    "paraphrase_accuracy",
    "neighbourhood_accuracy",
    "same_subject_kept",
    "neighbourhood_kept",
    "efficacy_exact",
    "paraphrase_exact",
    "efficacy_contained",
    "paraphrase_contained",
    "generation_entropy",
    "reference_score",
    "portability_accuracy",
    "portability_contained",
    "locality_accuracy",
    "locality_contained",
)
#: Case metrics that are no share in 0..1.
NO_SHARES = ("generation_entropy",)
METRICS = (*CASE_METRICS, "unedited_recall")

# Goes up when a key changes its meaning or goes away, or when half of a resumed run's cells would lack a metric.
# Version 2: a line or row holds for its ``size``; in version 1 a run had one. Version 3: answers without edits, what
# became of each edit. Version 4: what the model wrote by itself; scores leave ties out. Version 5: other questions, by
# kind.
SCHEMA_VERSION = 5
#: The versions that are read; older ones are not resumed.
READABLE_VERSIONS = (1, 2, 3, 4, 5)


class Scored(Protocol):
    """What a case must be able to say of its prompts to be kept; see :class:`kgt_editor.evaluation.metrics.CaseScores`.

    Attributes:
        superseded: whether a later edit of the run takes this one back.
    """

    @property
    def superseded(self) -> bool: ...

    def metrics(self, normalise: str = "mean") -> dict[str, float | None]:
        """Every one of :data:`CASE_METRICS`; None where the record has no such prompt."""

    def silence(self) -> dict[str, int]:
        """How many prompts were ``asked`` that no edit is to change, and to how many the model was ``silent``."""

    def undecided(self, normalise: str = "mean") -> dict[str, int]:
        """Of how many prompts ``asked`` by probability how many were ``tied`` or ``not_finite``."""

    def kinds(self) -> dict[str, dict[str, int]]:
        """Of each kind of other questions how many were ``asked``, and how many answered rightly."""

    def as_dict(self) -> dict[str, Any]:
        """Raw numbers for a line of JSON."""


@dataclass(frozen=True)
class EditResult:
    """One edit of a cell, before anything is evaluated.

    Attributes:
        position: place in the order of edits, from 0.
        seconds: wall time; None where it failed.
        failure: why it failed; None where it did not.
        peak_bytes: the highest memory while it ran; 0 where it failed.
        details: what it changed, where a person can read it; see ``Editor.edit_details``.
    """

    position: int
    case_id: int
    seconds: float | None
    failure: str | None
    peak_bytes: int
    details: dict[str, Any] | None


@dataclass(frozen=True)
class CaseResult:
    """One record in one cell (an editor with a seed).

    Attributes:
        position: place in the order of edits, from 0.
        edit_seconds: wall time of the edit; None where it failed.
        failure: why the edit failed; None where it did not.
        scores: None where the run ended before the case was evaluated.
        recalled: single mode: hits on the known facts asked after this edit.
        request: what was asked for: query, subject, relation_id, target_new, target_true.
        said: what the model wrote to the query when the case was evaluated; None where it gives no text.
        details: what the edit changed, where a person can read it; see ``Editor.edit_details``.
    """

    case_id: int
    position: int
    edit_seconds: float | None
    failure: str | None
    scores: Scored | None
    recalled: tuple[bool, ...] = ()
    request: dict[str, str] | None = None
    said: str | None = None
    details: dict[str, Any] | None = None


@dataclass
class CellResult:
    """An editor with a seed after a number of edits.

    Attributes:
        recalled: hits on the known facts that no edit touched.
        peak_memory_bytes: see :func:`kgt_editor.lm.meter.measure`; the largest of the edits.
        device_memory: after the last edit of a sequence, as the driver counts it; None without a GPU, and where edits
            and evaluation take turns, as the evaluation's memory would be in it.
    """

    editor: str
    seed: int
    size: int
    cases: list[CaseResult] = field(default_factory=list)
    recalled: list[bool] = field(default_factory=list)
    peak_memory_bytes: int = 0
    device_memory: dict[str, Any] | None = None

    @property
    def edit_seconds(self) -> list[float]:
        """Seconds of the edits that did not fail, in order."""
        return [case.edit_seconds for case in self.cases if case.edit_seconds is not None]

    @property
    def failed_edits(self) -> int:
        """How many edits failed; such a record counts as not edited in every metric."""
        return sum(case.failure is not None for case in self.cases)


def record_line(editor: str, seed: int, size: int, case: CaseResult, normalise: str) -> RecordLine:
    """A line of ``records.jsonl``: a case under an editor after ``size`` edits, with all raw numbers."""
    scored = case.scores
    return {
        "editor": editor,
        "seed": seed,
        "size": size,
        "case_id": case.case_id,
        "position": case.position,
        "edit_seconds": case.edit_seconds,
        "failure": case.failure,
        "recalled": case.recalled,
        "request": case.request,
        "said": case.said,
        "details": case.details,
        "metrics": scored.metrics(normalise) if scored else None,
        "raw": scored.as_dict() if scored else None,
    }


class RecordLine(TypedDict, total=False):
    """A line of ``records.jsonl``: a case under an editor after a number of edits; see :class:`CaseResult`.

    ``metrics`` and ``raw`` are None where the case was not evaluated.
    """

    editor: str
    seed: int
    size: int
    case_id: int
    position: int
    edit_seconds: float | None
    failure: str | None
    recalled: tuple[bool, ...]
    request: dict[str, str] | None
    said: str | None
    details: dict[str, Any] | None
    metrics: dict[str, float | None] | None
    raw: dict[str, Any] | None


class CellLine(TypedDict, total=False):
    """A line of ``cells.jsonl``: an editor with a seed after a number of edits, all of it measured.

    ``forward_seconds`` and ``inference_memory_bytes`` are of plain inference, ``preparation_seconds`` of what the
    editor does once a model, ``state_bytes`` of what its edits take on disk.
    """

    editor: str
    seed: int
    size: int
    status: str
    reason: str | None
    cases: int
    failed_edits: int
    first_failure: str | None
    edit_outcomes: dict[str, int] | None
    recalled: list[bool]
    peak_memory_bytes: int
    device_memory: dict[str, Any] | None
    state_bytes: int | None
    forward_seconds: float
    inference_memory_bytes: int
    preparation_seconds: float


class Manifest(TypedDict, total=False):
    """``manifest.json``: what was asked, with what, when, and how it ended (``status``)."""

    schema_version: int
    run: str
    command: list[str]
    config: dict[str, Any]
    hparams_from: dict[str, str]
    known_only: dict[str, Any] | None
    records_left_out: dict[str, int]
    prompts_left_out: dict[str, int]
    environment: dict[str, Any]
    started: str
    ended: str
    status: str
    resumed: list[dict[str, Any]]


@dataclass(frozen=True)
class CellFailure:
    """A cell that failed.

    Attributes:
        seed: None where the editor could not be prepared, which no other seed of its row would change.
        reason: one line.
    """

    editor: str
    seed: int | None
    reason: str

    @property
    def where(self) -> str:
        """``preparation``, or the seed."""
        return "preparation" if self.seed is None else f"seed {self.seed}"


@dataclass(frozen=True)
class MissingCell:
    """A cell that is not complete, and did not fail; ``sizes`` are the numbers of edits that it lacks."""

    editor: str
    seed: int
    sizes: list[int]


class Summary(TypedDict, total=False):
    """``summary.json``: a row an editor and number of edits, and what is not there.

    ``rows`` are those of :func:`kgt_editor.results.summary.summary_row`, ``comparisons`` those of
    :func:`kgt_editor.results.paired.comparisons`; ``failed`` and ``missing`` hold :class:`CellFailure` and
    :class:`MissingCell` as objects of JSON.
    """

    schema_version: int
    rows: list[dict[str, Any]]
    comparisons: dict[str, Any] | None
    known_only: dict[str, Any]
    complete: bool
    normalise: str
    failed: list[dict[str, Any]]
    missing: list[dict[str, Any]]


def check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Find out whether a run can be read.

    Args:
        manifest: what ``manifest.json`` holds.
        path: that file.

    Raises:
        UsageError: the run is of an unknown schema version, or of no version.
    """
    version = manifest.get("schema_version")
    if version not in READABLE_VERSIONS:
        raise UsageError(
            f"run {path.parent.name} has schema version {version}, this report reads "
            f"{', '.join(map(str, READABLE_VERSIONS))}: use the version of kgt_editor that wrote it"
        )
    for name in ("editors", "model", "dataset", "size" if version == 1 else "sizes", "seeds", "mode", "normalise"):
        if name not in manifest.get("config", {}):
            raise UsageError(f"{path}: config has no '{name}'; this is no run of compare.py")


def sizes_of(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers of edits after which a run's cells are evaluated, the smallest first, whatever its version."""
    asked = config["sizes"] if "sizes" in config else [config["size"]]
    limit = config.get("limit")
    return tuple(sorted({int(size if limit is None else min(size, limit)) for size in asked}))
