"""A comparison: several editors, several seeds, one model and data set, one results folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from kgt_editor.data import base as data_base
from kgt_editor.data.base import DataSet
from kgt_editor.editors.base import Editor, create_editor, get_editor_class, names
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.console import Display
from kgt_editor.evaluation.launch import Task
from kgt_editor.evaluation.lines import DiskError
from kgt_editor.evaluation.look import Look, TakeALook, bench_of, look
from kgt_editor.evaluation.results import SCHEMA_VERSION, check_writable, now
from kgt_editor.evaluation.run_folder import MANIFEST, RunFolder
from kgt_editor.evaluation.runner import Outcome, gather, in_turn, missing, summarise, tasks
from kgt_editor.evaluation.task import Bench
from kgt_editor.evaluation.workers import Workers
from kgt_editor.lm.loading import check_model, check_placement

Overwrite = Literal["never", "only-missing", "always"]


class RunConfig(BaseModel):
    """What is compared, on what, and how; the fields are the options of ``benchmarks/compare.py``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    editors: tuple[str, ...]
    model: str
    dataset: str
    data: Path | None = None
    sizes: tuple[int, ...]
    seeds: int
    mode: Literal["sequential", "single"]
    normalise: Literal["mean", "sum"]
    hparams_dir: Path
    overrides: dict[str, dict[str, str]] = {}
    device: str = "auto"
    device_map: str | None = None
    dtype: str = "float32"
    limit: int | None = None
    known_only: bool = False
    batch_size: int | Literal["auto"] = "auto"

    @property
    def texts_a_pass(self) -> int | None:
        """``batch_size`` as scorers take it: None where they choose."""
        return None if self.batch_size == "auto" else self.batch_size

    @field_validator("sizes")
    @classmethod
    def _growing(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(sizes)))

    @property
    def stops(self) -> tuple[int, ...]:
        """The numbers of edits after which a cell is evaluated: ``sizes``, those above ``limit`` cut to it."""
        return tuple(sorted({size if self.limit is None else min(size, self.limit) for size in self.sizes}))

    @property
    def count(self) -> int:
        """Records a cell edits."""
        return self.stops[-1]


@dataclass
class Request:
    """A checked request: everything that can be wrong before a model is loaded has been looked at."""

    config: RunConfig
    editors: dict[str, Editor]
    data: DataSet
    out: Path

    @property
    def folder(self) -> Path:
        """Where the run is, or will be: a folder named by all that decides what is measured."""
        config = self.config
        label = f"{Path(config.model).name.replace(':', '-')}-{config.dataset}-{config.mode}-{config.count}"
        return RunFolder.place(self.out, label, resolved_config(self))


def row_names(editors: Sequence[str]) -> list[str]:
    """The rows of the table: ``all`` unfolded, each once, and the no-edit row always first."""
    wanted = [name for asked in editors for name in (names() if asked == "all" else [asked])]
    return list(dict.fromkeys(["none", *wanted]))


def check_request(
    config: RunConfig, out: Path, progress: Callable[[int, int | None], None] | None = None, here: bool = True
) -> Request:
    """Look at everything in a request that can be wrong, cheapest first, before anything heavy starts.

    Args:
        config: what was asked.
        out: where results go.
        progress: told the bytes of a data set's download.
        here: whether the cells run on this machine, so that it must have the device.

    Raises:
        UsageError: unknown editor, model, data set, device, hyperparameter; a broken file; a size above the pool; a
            folder that cannot be written.
    """
    rows = row_names(config.editors)
    for name in rows:
        get_editor_class(name)
    if here:
        check_placement(config.device, config.device_map)
    data = data_base.load(config.dataset, config.data, progress)
    if data.histories and not data.records:
        raise UsageError(f"data set '{config.dataset}' holds users' histories, no edits to compare")
    if any(record.steps for record in data.records):
        raise UsageError(f"data set '{config.dataset}' is told in steps, not in edits: run benchmarks/conflicts.py")
    data.sample(config.count, 0)
    check_model(config.model)
    unused = [key for key in config.overrides if not any(_applies(key, name) for name in rows)]
    if unused:
        raise UsageError(f"--set {unused[0]}.…: '{unused[0]}' is not among the editors of this run: {', '.join(rows)}")
    editors = {}
    for name in rows:
        changes = {
            key: value
            for target, pairs in config.overrides.items()
            if _applies(target, name)
            for key, value in pairs.items()
        }
        editors[name] = create_editor(name, config.model, config.hparams_dir, changes)
    check_writable(out)
    return Request(config, editors, data, out)


def _applies(target: str, row: str) -> bool:
    """``kgt`` stands for itself and all its presets, ``kgt:paper`` for that preset alone."""
    return target in (row, row.split(":", 1)[0])


def resolved_config(request: Request) -> dict[str, Any]:
    """The request as the manifest holds it: with every hyperparameter, and the revision of the data."""
    config = request.config
    return {
        **config.model_dump(mode="json"),
        # Where the YAMLs lie says nothing of the run (their content is below) and much of the machine.
        "hparams_dir": config.hparams_dir.name,
        "editors": list(request.editors),
        "hparams": {name: editor.hparams.model_dump(mode="json") for name, editor in request.editors.items()},
        "data_revision": request.data.revision,
    }


@dataclass(frozen=True)
class Manner:
    """How a run is gone about; nothing of this changes what it measures.

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
    manner: Manner | None = None,
    workers: Workers | None = None,
) -> Outcome:
    """Run every cell that is missing and write the results folder; a failing cell does not stop the others.

    Args:
        request: see :func:`check_request`.
        command: as it was given.
        display: shows how it goes.
        manner: how it is gone about.
        workers: who runs the cells; this process does without any.

    Raises:
        UsageError: the model cannot be loaded or an editor does not support it (nothing has been prepared then); the
            folder holds another run.
        KgtError: another process works on the folder, or it cannot be written.
    """
    manner = manner or Manner()
    resolved, path = resolved_config(request), request.folder
    # Nothing is left behind of a request that turns out to be impossible, and no model loaded for one that is done.
    ready = None if (path / MANIFEST).is_file() else _ready(request, display, workers)
    with RunFolder.opened(path, resolved, display.note, anew=manner.overwrite == "always") as folder:
        told = folder.manifest()
        for cell in folder.unfinished():
            gather(cell, folder, display)
        if told is not None and (manner.overwrite == "never" or not missing(request, folder)):
            display.note(f"{path.name} is there already; --overwrite always would measure it again")
            outcome = summarise(request, folder, [], told.get("known_only"))
            if not outcome.missing and told.get("status") != "complete":
                folder.write(MANIFEST, {"ended": now(), **told, "status": "complete"})
            return outcome
        request, bench, look = ready or _ready(request, display, workers)
        known = look.known
        _check_machine(told, look.environment, display)
        manifest = _manifest(request, resolved, command, look, told)
        folder.write(MANIFEST, {**manifest, "status": "running"})
        failed: list[dict[str, Any]] = []
        interrupted = False
        try:
            todo = tasks(request, folder, resolved, manner.checkpoint_every)
            if workers is not None:
                failed = workers.cells(todo, folder, display)
            else:
                assert bench is not None
                failed = in_turn(todo, folder, bench, display, manner.debug)
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
        return outcome


_Ready = tuple[Request, Bench | None, Look]


def _ready(request: Request, display: Display, workers: Workers | None) -> _Ready:
    """The request with the facts that the model knows where it asks for these, the model where this process needs it.

    Raises:
        UsageError: the model cannot be loaded, knows too little, or an editor does not support it.
    """
    bench = None
    if workers is not None:
        found = workers.do(Task("the model", TakeALook(request), workers.needs), display)
    else:
        bench = bench_of(request)
        with display.stage("known facts", None) as advance:
            found = look(request, bench, advance)
    if found.known is None:
        return request, bench, found
    share, data = found.known, found.data or request.data
    display.note(f"the model knows {share['known']} of the {share['asked']} records asked ({share['share']:.1%})")
    return replace(request, data=data), bench, found


def _manifest(
    request: Request,
    resolved: dict[str, Any],
    command: Sequence[str],
    look: Look,
    told: dict[str, Any] | None,
) -> dict[str, Any]:
    """The manifest of a run that begins, or that of one that is gone on with and a line that says so."""
    made = look.environment
    if told is not None:
        again = {"started": now(), "command": list(command), "environment": made}
        kept = {name: value for name, value in told.items() if name not in ("ended", "status")}
        return {**kept, "resumed": [*told.get("resumed", ()), again]}
    return {
        "schema_version": SCHEMA_VERSION,
        "run": request.folder.name,
        "command": list(command),
        "config": resolved,
        "known_only": look.known,
        "records_left_out": dict(request.data.skipped),
        "environment": made,
        "started": now(),
    }


def _check_machine(told: dict[str, Any] | None, here: dict[str, Any], display: Display) -> None:
    """Refuse to go on with a run on another kind of device; say what else differs and may move the last digits.

    Raises:
        UsageError: half of the run would be measured on a GPU and half on a CPU.
    """
    before = (told or {}).get("environment")
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
