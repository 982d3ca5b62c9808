"""The cells of a run: which are missing, running them one after the other, and the summary of what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgt_editor.data.base import KnownFact, seeded_key
from kgt_editor.errors import one_line
from kgt_editor.evaluation.free_text import References
from kgt_editor.evaluation.protocol import CellPlan
from kgt_editor.results.lines import DiskError
from kgt_editor.results.paired import comparisons
from kgt_editor.results.run_folder import BASE_ANSWERS, SUMMARY, RunFolder, config_hash
from kgt_editor.results.schema import SCHEMA_VERSION, CellFailure, MissingCell, Summary
from kgt_editor.results.summary import read_numbers, summary_row
from kgt_editor.runs.console import Display, title_of
from kgt_editor.runs.gather import gather
from kgt_editor.runs.task import CellTask, LoadedModel, PreparationError, run_task
from kgt_editor.runs.workers import run_apart

if TYPE_CHECKING:
    from kgt_editor.runs.request import Request

MAX_KNOWN_FACTS = 300


@dataclass
class RunOutcome:
    """How a run ended.

    Attributes:
        rows: of the summary, a line an editor and number of edits.
        failed: the cells that failed in this process.
        missing: the other cells that are not complete.
    """

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[CellFailure] = field(default_factory=list)
    missing: list[MissingCell] = field(default_factory=list)
    interrupted: bool = False


def missing(request: Request, folder: RunFolder) -> dict[tuple[str, int], list[int]]:
    """The cells that are not complete, by editor and seed, and the numbers of edits that each of them lacks."""
    config = request.config
    found = {}
    for name in request.editors:
        for seed in range(config.seeds):
            left = [size for size in config.stops if (name, seed, size) not in folder.done]
            if left:
                found[name, seed] = left
    return found


def tasks(request: Request, folder: RunFolder, resolved: dict[str, Any], checkpoint_every: int) -> list[CellTask]:
    """The cells that are not complete, in the order of the rows."""
    config = request.config
    digest = config_hash(resolved)
    training = tuple(request.data.training)
    made = []
    for name, seed in missing(request, folder):
        editor = request.editors[name]
        records = request.data.sample(config.count, seed)
        # Records outside the reported ones; where the data set has none, the first of the run (undone again).
        warm_up = request.data.validation or training or records
        known = _known_facts(request, seed)
        references = References(request.data.everything, records) if config.texts else None
        plan = CellPlan(records, known, warm_up, config.mode, seed, config.stops, config.texts_a_pass, references)
        made.append(
            CellTask(
                name,
                type(editor),
                editor.hparams,
                config.model,
                config.device,
                config.dtype,
                plan,
                training,
                config.normalise,
                digest,
                folder.cell(name, seed),
                folder.path / f"{name.replace(':', '-')}-{seed}.log",
                checkpoint_every,
                config.device_map,
                folder.path / BASE_ANSWERS,
            )
        )
    return made


def _known_facts(request: Request, seed: int) -> list[KnownFact]:
    facts = sorted(request.data.known_facts, key=lambda fact: seeded_key(seed, fact.prompt))
    return facts[:MAX_KNOWN_FACTS]


def in_turn(
    todo: Sequence[CellTask], folder: RunFolder, loaded: LoadedModel, display: Display, debug: bool = False
) -> list[CellFailure]:
    """Run cells one after the other in this process; whatever goes wrong in one of them costs no other.

    Returns:
        the cells that failed.

    Raises:
        DiskError: nothing can be written any more.
    """
    failed: list[CellFailure] = []
    with display.board(len(todo)) as board:
        for task in todo:
            title = title_of(task.name, task.seed)
            if any(one.editor == task.name and one.seed is None for one in failed):
                board.ended(title)
                continue
            board.started(title)
            advance = partial(board.advanced, title)
            try:
                if task.editor_class.own_process:
                    run_apart(task, advance, display.note)
                else:
                    run_task(task, loaded, advance, display.note)
            except DiskError:
                raise
            except Exception as error:
                if debug:
                    display.console.print_exception()
                seed = None if isinstance(error, PreparationError) else task.seed
                failed.append(CellFailure(task.name, seed, one_line(error)))
                display.failed(failed[-1])
            board.ended(title)
            gather(task.folder, folder, display)
    return failed


def summarise(
    request: Request, folder: RunFolder, failed: list[CellFailure], known: dict[str, Any] | None
) -> RunOutcome:
    """Write the summary of what is complete, which names what is not; ``known`` is the share of known records."""
    config = request.config
    numbers = read_numbers(folder.cells(), folder.records())
    outcome = RunOutcome(folder.path, failed=failed)
    facts = {"model": config.model, "dataset": config.dataset, "mode": config.mode}
    for name in request.editors:
        for size in config.stops:
            if (name, size) in numbers:
                outcome.rows.append(summary_row(numbers[name, size], **facts))
    known_failures = {(one.editor, one.seed) for one in failed}
    for (name, seed), left in missing(request, folder).items():
        if not {(name, seed), (name, None)} & known_failures:
            outcome.missing.append(MissingCell(name, seed, left))
    ordered = {(name, size): numbers.get((name, size), []) for name in request.editors for size in config.stops}
    summary: Summary = {"schema_version": SCHEMA_VERSION, "rows": outcome.rows, "comparisons": comparisons(ordered)}
    if known:
        summary["known_only"] = known
    summary["complete"] = not (failed or outcome.missing)
    summary["normalise"] = config.normalise
    summary["failed"] = [asdict(one) for one in failed]
    summary["missing"] = [asdict(one) for one in outcome.missing]
    folder.write(SUMMARY, summary)
    return outcome
