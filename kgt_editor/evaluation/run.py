"""A comparison: several editors, several seeds, one model and data set, one results folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kgt_editor.data import base as data_base
from kgt_editor.data.base import DataSet, KnownFact, seeded_key
from kgt_editor.editors.base import Editor, create_editor, get_editor_class, names
from kgt_editor.errors import KgtError, UnsupportedModelError, UsageError
from kgt_editor.evaluation.console import Display
from kgt_editor.evaluation.isolated import Job, run_cell_apart
from kgt_editor.evaluation.known import KnownRecords
from kgt_editor.evaluation.metrics import scorer
from kgt_editor.evaluation.paired import comparisons
from kgt_editor.evaluation.protocol import BaseWeights, CellPlan, plain_inference, run_cell
from kgt_editor.evaluation.results import (
    SCHEMA_VERSION,
    CaseResult,
    CellResult,
    RunFolder,
    check_writable,
    environment,
    now,
    summary_row,
)
from kgt_editor.evaluation.stats import forwards
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.loading import check_model, load_model, resolve_device

MAX_KNOWN_FACTS = 300


class RunConfig(BaseModel):
    """What is compared, on what, and how; the fields are the options of ``benchmarks/compare.py``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    editors: tuple[str, ...]
    model: str
    dataset: str
    data: Path | None = None
    size: int
    seeds: int
    mode: Literal["sequential", "single"]
    normalise: Literal["mean", "sum"]
    hparams_dir: Path
    overrides: dict[str, dict[str, str]] = {}
    device: str = "auto"
    dtype: str = "float32"
    limit: int | None = None
    known_only: bool = False
    batch_size: int | Literal["auto"] = "auto"

    @property
    def texts_a_pass(self) -> int | None:
        """``batch_size`` as scorers take it: None where they choose."""
        return None if self.batch_size == "auto" else self.batch_size

    @property
    def count(self) -> int:
        """Records a cell edits: ``size``, or the first ``limit`` of them."""
        return self.size if self.limit is None else min(self.size, self.limit)


@dataclass
class Outcome:
    """How a run ended."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    forward_seconds: float = 0.0


@dataclass
class Request:
    """A checked request: everything that can be wrong before a model is loaded has been looked at."""

    config: RunConfig
    editors: dict[str, Editor]
    data: DataSet
    out: Path


def row_names(editors: Sequence[str]) -> list[str]:
    """The rows of the table: ``all`` unfolded, each once, and the no-edit row always first."""
    wanted = [name for asked in editors for name in (names() if asked == "all" else [asked])]
    return list(dict.fromkeys(["none", *wanted]))


def check_request(config: RunConfig, out: Path, progress: Callable[[int, int | None], None] | None = None) -> Request:
    """Look at everything in a request that can be wrong, cheapest first, before anything heavy starts.

    Args:
        config: what was asked.
        out: where results go.
        progress: told the bytes of a data set's download.

    Raises:
        UsageError: unknown editor, model, data set, device, hyperparameter; a broken file; a size above the pool; a
            folder that cannot be written.
    """
    rows = row_names(config.editors)
    for name in rows:
        get_editor_class(name)
    resolve_device(config.device)
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


def run(request: Request, command: Sequence[str], display: Display, debug: bool = False) -> Outcome:
    """Run every cell and write the results folder; a failing cell does not stop the others.

    Raises:
        UsageError: the model cannot be loaded or an editor does not support it (nothing has been prepared then).
    """
    config = request.config
    model, tok = load_model(config.model, config.device, config.dtype)
    for name, editor in request.editors.items():
        ok, reason = editor.supports(model)
        if not ok:
            raise UnsupportedModelError(f"editor '{name}' cannot edit '{config.model}': {reason}; leave it out")
    known = None
    if config.known_only:
        request, known = _known_only(request, model, tok, display)
    resolved = resolved_config(request)
    label = f"{Path(config.model).name.replace(':', '-')}-{config.dataset}-{config.mode}-{config.count}"
    folder = RunFolder.create(request.out, label, resolved)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "run": folder.path.name,
        "command": list(command),
        "config": resolved,
        "known_only": known,
        "records_left_out": dict(request.data.skipped),
        "environment": environment(device_of(model)),
        "started": now(),
    }
    folder.write("manifest.json", {**manifest, "status": "running"})
    runner = _Runner(request, model, tok, folder, display, debug)
    try:
        runner.all_cells()
    except KeyboardInterrupt:
        runner.outcome.interrupted = True
    outcome = runner.summarise(known)
    status = "interrupted" if outcome.interrupted else "failed" if outcome.failed else "complete"
    folder.write("manifest.json", {**manifest, "ended": now(), "status": status})
    return outcome


def _known_only(request: Request, model: Any, tok: Any, display: Display) -> tuple[Request, dict[str, Any]]:
    """The request with the facts that the model knows, and how many of the records asked these are."""
    config = request.config
    with display.stage("known facts", None) as advance:
        records = KnownRecords(scorer(model, tok, config.texts_a_pass), request.data, advance)
        data = records.limited(config.count, config.seeds, MAX_KNOWN_FACTS)
    share = records.share()
    display.note(f"the model knows {share['known']} of the {share['asked']} records asked ({share['share']:.1%})")
    return replace(request, data=data), share


class _Runner:
    """One run under way."""

    def __init__(
        self, request: Request, model: Any, tok: Any, folder: RunFolder, display: Display, debug: bool
    ) -> None:
        self.request, self.config, self.model, self.tok = request, request.config, model, tok
        self.folder, self.display, self.debug = folder, display, debug
        self.outcome = Outcome(folder.path)
        self.base = BaseWeights(model, tok)
        self.cells: dict[str, list[CellResult]] = {name: [] for name in request.editors}
        self.preparation: dict[str, float] = {}
        self.inference_bytes = 0
        self.inference_apart: dict[str, int] = {}  # of rows whose cells have processes of their own

    def all_cells(self) -> None:
        records = self.request.data.sample(self.config.count, 0)
        self.outcome.forward_seconds, self.inference_bytes = plain_inference(self.model, self.tok, records)
        for name, editor in self.request.editors.items():
            self._guard(name, None, partial(self._prepare, name, editor))
            for seed in range(self.config.seeds):
                if name in self.preparation:
                    self._guard(name, seed, partial(self._cell, name, editor, seed))

    def _guard(self, name: str, seed: int | None, work: Callable[[], None]) -> None:
        """Do ``work``; whatever goes wrong in it costs this editor's cell only."""
        try:
            self._fresh_model()
            work()
        except Exception as error:
            if self.debug:
                self.display.console.print_exception()
            reason = str(error) if isinstance(error, KgtError) else f"{type(error).__name__}: {error}"
            reason = " ".join(reason.split())
            self.outcome.failed.append({"editor": name, "seed": seed, "reason": reason})
            self.display.failed(name, seed, reason)

    def _fresh_model(self) -> None:
        try:
            self.base.restore(self.model)
        except KgtError:  # an editor rebuilt the model itself: take a new one
            self.model, self.tok = load_model(self.config.model, self.config.device, self.config.dtype)
            self.base = BaseWeights(self.model, self.tok)

    def _prepare(self, name: str, editor: Editor) -> None:
        start = time.perf_counter()
        if editor.own_process:  # it prepares where it edits
            self.preparation[name] = 0.0
            return
        with self.display.stage(name, None) as advance:
            editor.prepare(self.model, self.tok, self.request.data.training, advance)
        self.preparation[name] = time.perf_counter() - start
        if self.preparation[name] > 1:
            self.display.prepared(name, self.preparation[name])

    def _cell(self, name: str, editor: Editor, seed: int) -> None:
        written: list[CaseResult] = []

        def on_case(case: CaseResult) -> None:
            written.append(case)
            self.folder.append_case(name, seed, case, self.config.normalise)

        records = self.request.data.sample(self.config.count, seed)
        known, warm_up, mode = self._known_facts(seed), self._warm_up(records), self.config.mode
        plan = CellPlan(records, known, warm_up, mode, seed, self.config.texts_a_pass)
        cell, status, reason = CellResult(name, seed), "failed", None
        try:
            with self.display.stage(name, seed) as advance:
                if editor.own_process:
                    cell, self.inference_apart[name] = run_cell_apart(self._job(editor, name, plan), on_case, advance)
                else:
                    cell = run_cell(editor, name, self.model, self.tok, plan, self.base, on_case, advance)
            status = "complete"
        except BaseException as error:
            cell.cases = written
            status = "failed" if isinstance(error, Exception) else "interrupted"
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.folder.append_cell(cell, status, reason, preparation_seconds=self.preparation[name])
        self.cells[name].append(cell)
        self.display.finished(name, seed, cell)

    def _job(self, editor: Editor, name: str, plan: CellPlan) -> Job:
        config, log = self.config, self.folder.path / f"{name.replace(':', '-')}-{plan.seed}.log"
        training = tuple(self.request.data.training)
        return Job(editor, name, config.model, config.device, config.dtype, plan, training, log)

    def _known_facts(self, seed: int) -> list[KnownFact]:
        facts = sorted(self.request.data.known_facts, key=lambda fact: seeded_key(seed, fact.prompt))
        return facts[:MAX_KNOWN_FACTS]

    def _warm_up(self, records: Sequence[Any]) -> Sequence[Any]:
        """Records outside the reported ones; where the data set has none, the first of the run (undone again)."""
        return self.request.data.validation or self.request.data.training or records

    def summarise(self, known: dict[str, Any] | None) -> Outcome:
        """Write the summary of what is complete and name what is not; ``known`` is the share of known records."""
        outcome, config = self.outcome, self.config
        for name, cells in self.cells.items():
            facts = {"model": config.model, "dataset": config.dataset, "mode": config.mode, "size": config.count}
            if cells:
                row = summary_row(cells, config.normalise, **facts)
                row["forward_seconds"] = outcome.forward_seconds
                row["edit_forwards"] = forwards(row["edit_seconds"], outcome.forward_seconds)
                row["inference_memory_bytes"] = self.inference_apart.get(name, self.inference_bytes)
                row["preparation_seconds"] = self.preparation[name]
                outcome.rows.append(row)
            done = {cell.seed for cell in cells}
            gone = {failure["seed"] for failure in outcome.failed if failure["editor"] == name}
            if None not in gone:
                left = [seed for seed in range(config.seeds) if seed not in done | gone]
                outcome.missing += [{"editor": name, "seed": seed} for seed in left]
        summary: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "rows": outcome.rows}
        summary["comparisons"] = comparisons(self.cells, config.normalise)
        summary |= {"known_only": known} if known else {}
        summary |= {"complete": not (outcome.failed or outcome.missing), "normalise": config.normalise}
        self.folder.write("summary.json", summary | {"failed": outcome.failed, "missing": outcome.missing})
        return outcome
