"""The cells of a run: which are missing, running them one after the other, and the summary of what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgt_editor.data.base import KnownFact, seeded_key
from kgt_editor.errors import KgtError, one_line
from kgt_editor.evaluation.console import Display
from kgt_editor.evaluation.isolated import run_task_apart
from kgt_editor.evaluation.paired import comparisons
from kgt_editor.evaluation.protocol import CellPlan
from kgt_editor.evaluation.results import SCHEMA_VERSION, config_hash
from kgt_editor.evaluation.run_folder import BASE_ANSWERS, SUMMARY, RunFolder
from kgt_editor.evaluation.summary import read_numbers, summary_row
from kgt_editor.evaluation.task import Bench, CellTask, PreparationError, run_task
from kgt_editor.results.lines import DiskError

if TYPE_CHECKING:
    from kgt_editor.evaluation.request import Request

MAX_KNOWN_FACTS = 300


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        rows: of the summary, a line an editor and number of edits.
        failed: the cells that failed in this process: editor, seed (none: the preparation) and the reason.
        missing: the other cells that are not complete: editor, seed and the numbers of edits that are missing.
    """

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)
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
        plan = CellPlan(records, known, warm_up, config.mode, seed, config.stops, config.texts_a_pass)
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
    todo: Sequence[CellTask], folder: RunFolder, bench: Bench, display: Display, debug: bool = False
) -> list[dict[str, Any]]:
    """Run cells one after the other in this process; whatever goes wrong in one of them costs no other.

    Returns:
        the cells that failed: editor, seed (None: the row's preparation) and the reason.

    Raises:
        DiskError: nothing can be written any more.
    """
    failed: list[dict[str, Any]] = []
    for task in todo:
        if any(one["editor"] == task.name and one["seed"] is None for one in failed):
            continue
        try:
            with display.stage(task.name, task.seed) as advance:
                if task.editor_class.own_process:
                    run_task_apart(task, advance, display.note)
                else:
                    run_task(task, bench, advance, display.note)
        except DiskError:
            raise
        except Exception as error:
            if debug:
                display.console.print_exception()
            seed = None if isinstance(error, PreparationError) else task.seed
            failed.append({"editor": task.name, "seed": seed, "reason": one_line(error)})
            display.failed(task.name, seed, failed[-1]["reason"])
        gather(task.folder, folder, display)
    return failed


def gather(cell: Path, folder: RunFolder, display: Display) -> None:
    """Take a cell's folder into the run's, and say so where that makes the cell complete.

    Raises:
        DiskError: there is no room.
    """
    try:
        taken = folder.gather(cell)
    except DiskError:
        raise
    except KgtError as error:  # its files are broken: what runs the cell says so, and what to do
        display.note(one_line(error))
        return
    if taken and not cell.is_dir():
        display.finished(taken[-1])


def summarise(
    request: Request, folder: RunFolder, failed: list[dict[str, Any]], known: dict[str, Any] | None
) -> Outcome:
    """Write the summary of what is complete, which names what is not; ``known`` is the share of known records."""
    config = request.config
    numbers = read_numbers(folder.cells(), folder.records())
    outcome = Outcome(folder.path, failed=failed)
    facts = {"model": config.model, "dataset": config.dataset, "mode": config.mode}
    for name in request.editors:
        for size in config.stops:
            if (name, size) in numbers:
                outcome.rows.append(summary_row(numbers[name, size], **facts))
    told = {(one["editor"], one["seed"]) for one in failed}
    for (name, seed), left in missing(request, folder).items():
        if not {(name, seed), (name, None)} & told:
            outcome.missing.append({"editor": name, "seed": seed, "sizes": left})
    summary: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "rows": outcome.rows}
    ordered = {(name, size): numbers.get((name, size), []) for name in request.editors for size in config.stops}
    summary["comparisons"] = comparisons(ordered)
    summary |= {"known_only": known} if known else {}
    summary |= {"complete": not (failed or outcome.missing), "normalise": config.normalise}
    folder.write(SUMMARY, summary | {"failed": failed, "missing": outcome.missing})
    return outcome
