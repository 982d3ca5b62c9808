"""A comparison: several editors, several seeds, one model and data set, one results folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from kgt_editor.data.provenance import PROVENANCE
from kgt_editor.errors import UsageError
from kgt_editor.results.lines import DiskError
from kgt_editor.results.run_folder import MANIFEST, RunFolder
from kgt_editor.results.schema import SCHEMA_VERSION, CellFailure
from kgt_editor.runs.cells import RunOutcome, in_turn, missing, summarise, tasks
from kgt_editor.runs.console import Display
from kgt_editor.runs.environment import now
from kgt_editor.runs.gather import gather
from kgt_editor.runs.launch.base import Task
from kgt_editor.runs.model_info import ModelInfo, ModelInfoTask, loaded_model, model_info
from kgt_editor.runs.request import Request, hparams_sources, resolved_config
from kgt_editor.runs.task import LoadedModel
from kgt_editor.runs.workers import Workers

Overwrite = Literal["never", "only-missing", "always"]


@dataclass(frozen=True)
class ResumePolicy:
    """What becomes of a run that is there already, and how often one that is under way is saved.

    Nothing of this changes what is measured.

    Attributes:
        overwrite: what becomes of a run that is there: ``never`` leaves it as it is, ``only-missing`` goes on with what
            it lacks, ``always`` deletes it and begins anew.
        checkpoint_every: edits after which an editor's state is saved; a run that is killed loses no more.
        debug: show the tracebacks of cells that fail.
    """

    overwrite: Overwrite = "only-missing"
    checkpoint_every: int = 50
    debug: bool = False


def run(
    request: Request,
    command: Sequence[str],
    display: Display,
    policy: ResumePolicy | None = None,
    workers: Workers | None = None,
) -> RunOutcome:
    """Run every cell that is missing and write the results folder; a failing cell does not stop the others.

    Args:
        request: see :func:`kgt_editor.runs.request.check_request`.
        command: as it was given.
        display: shows how it goes.
        policy: whether it begins, resumes or stays as it is.
        workers: who runs the cells; this process does without any.

    Raises:
        UsageError: the model cannot be loaded or an editor does not support it (nothing has been prepared then); the
            folder holds another run.
        KgtError: another process works on the folder, or it cannot be written.
    """
    policy = policy or ResumePolicy()
    resolved, path = resolved_config(request), request.folder
    # Nothing is left behind of a request that turns out to be impossible, and no model loaded for one that is done.
    ready = None if (path / MANIFEST).is_file() else _ready(request, display, workers)
    with RunFolder.opened(path, resolved, display.note, anew=policy.overwrite == "always") as folder:
        earlier = folder.manifest()
        for cell in folder.unfinished():
            gather(cell, folder, display)
        if earlier is not None and (policy.overwrite == "never" or not missing(request, folder)):
            display.note(f"{path.name} is there already; --overwrite always would measure it again")
            outcome = summarise(request, folder, [], earlier.get("known_only"))
            if not outcome.missing and earlier.get("status") != "complete":
                folder.write(MANIFEST, {"ended": now(), **earlier, "status": "complete"})
            return outcome
        request, loaded, found = ready or _ready(request, display, workers)
        known = found.known
        _check_machine(earlier, found.environment, display)
        manifest = _manifest(request, resolved, command, found, earlier)
        folder.write(MANIFEST, {**manifest, "status": "running"})
        failed: list[CellFailure] = []
        interrupted = False
        try:
            todo = tasks(request, folder, resolved, policy.checkpoint_every)
            if workers is not None:
                failed = workers.cells(todo, folder, display)
            else:
                assert loaded is not None
                failed = in_turn(todo, folder, loaded, display, policy.debug)
        except KeyboardInterrupt:
            interrupted = True
        except DiskError:
            with suppress(DiskError):  # a file may be small enough for what is left
                summarise(request, folder, failed, known)
                folder.write(MANIFEST, {**manifest, "ended": now(), "status": "interrupted"})
            raise
        for cell in folder.unfinished():  # of a cell that was interrupted, the sizes that it had reached
            gather(cell, folder, display)
        outcome = summarise(request, folder, failed, known)
        outcome.interrupted = interrupted
        status = "interrupted" if interrupted else "failed" if failed else "complete"
        folder.write(MANIFEST, {**manifest, "ended": now(), "status": status})
        if status == "complete":
            folder.forget_answers()
        return outcome


_Ready = tuple[Request, LoadedModel | None, ModelInfo]


def _ready(request: Request, display: Display, workers: Workers | None) -> _Ready:
    """The request with the facts that the model knows where it asks for these, the model where this process needs it.

    Raises:
        UsageError: the model cannot be loaded, knows too little, or an editor does not support it.
    """
    loaded = None
    if workers is not None:
        found = workers.do(Task("the model", ModelInfoTask(request), workers.needs), display)
    else:
        loaded = loaded_model(request)
        with display.stage("known facts", None) as advance:
            found = model_info(request, loaded, advance)
    data = found.data or request.data
    for reason in data.skipped.keys() - request.data.skipped.keys():
        display.note(f"records left out: {data.skipped[reason]}, {reason}")
    data.sample(request.config.count, 0)  # enough of them are left
    if found.known is not None:
        share = found.known
        display.note(f"the model knows {share['known']} of the {share['asked']} records asked ({share['share']:.1%})")
    return replace(request, data=data), loaded, found


def _manifest(
    request: Request,
    resolved: dict[str, Any],
    command: Sequence[str],
    found: ModelInfo,
    earlier: dict[str, Any] | None,
) -> dict[str, Any]:
    """The manifest of a run that begins, or that of one that is resumed and a line that says so."""
    made = found.environment
    if earlier is not None:
        again = {"started": now(), "command": list(command), "environment": made}
        kept = {name: value for name, value in earlier.items() if name not in ("ended", "status")}
        return {**kept, "resumed": [*earlier.get("resumed", ()), again]}
    provenance = PROVENANCE.get(request.config.dataset)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": request.folder.name,
        "command": list(command),
        "config": resolved,
        "hparams_from": hparams_sources(request),
        "data_provenance": provenance._asdict() if provenance else None,
        "known_only": found.known,
        "records_left_out": dict(request.data.skipped),
        "prompts_left_out": dict(request.data.skipped_prompts),
        "environment": made,
        "started": now(),
    }


def _check_machine(earlier: dict[str, Any] | None, here: dict[str, Any], display: Display) -> None:
    """Refuse to go on with a run on another kind of device; say what else differs and may move the last digits.

    Raises:
        UsageError: half of the run would be measured on a GPU and half on a CPU.
    """
    before = (earlier or {}).get("environment")
    if not before:
        return
    kinds = str(before.get("device")).partition(":")[0], str(here["device"]).partition(":")[0]
    if kinds[0] != kinds[1]:
        raise UsageError(
            f"this run was begun on {kinds[0]} and would go on on {kinds[1]}, whose times cannot stand in one table: "
            f"give --device {kinds[0]}, another --out, or --overwrite always to begin anew"
        )
    facts = {
        "device": ("device_name",),
        "threads": ("threads",),
        "torch": ("versions", "torch"),
        "transformers": ("versions", "transformers"),
    }
    changed = [
        f"{what} {old} / {new}"
        for what, keys in facts.items()
        if (old := _at(before, keys)) != (new := _at(here, keys))
    ]
    if changed:
        display.note(f"begun elsewhere, which may move last digits and times: {', '.join(changed)}")


def _at(values: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values
