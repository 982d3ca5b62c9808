"""A cell as a piece of work that any process can do: what it takes, and doing it into the cell's own folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgt_editor.config import HParams
from kgt_editor.data.record import Record
from kgt_editor.editors.base import Editor
from kgt_editor.errors import KgtError, one_line
from kgt_editor.evaluation.base_weights import BaseWeights
from kgt_editor.evaluation.inference import plain_inference
from kgt_editor.evaluation.kept import BaseAnswers
from kgt_editor.evaluation.protocol import (
    CASES_A_BATCH,
    CellPlan,
    SpoiledCellError,
    run_cell,
)
from kgt_editor.lm.loading import load_model
from kgt_editor.progress import Advance, Note, quiet
from kgt_editor.results.cell_folder import CellFolder
from kgt_editor.results.schema import SCHEMA_VERSION


class PreparationError(KgtError):
    """An editor could not be prepared, which no other seed of its row will change."""


@dataclass(frozen=True)
class CellTask:
    """Everything that a process needs to know to run a cell; it can be pickled.

    Attributes:
        name: the row's name, which may carry a preset.
        editor_class, hparams: the row's editor.
        model, device, dtype, device_map: see :func:`kgt_editor.lm.loading.load_model`.
        plan: see :func:`kgt_editor.evaluation.protocol.run_cell`.
        training: records for the editor's preparation.
        normalise: see :meth:`kgt_editor.evaluation.metrics.CaseScores.metrics`.
        digest: the hash of the run's configuration; a folder with another one is begun anew.
        folder: the cell's own, see :mod:`kgt_editor.results.cell_folder`.
        log: where everything goes that a process of its own prints.
        checkpoint_every: edits between two checkpoints.
        answers: the folder for what the model says without any edit, which other cells of the run share.
    """

    name: str
    editor_class: type[Editor]
    hparams: HParams
    model: str
    device: str
    dtype: str
    plan: CellPlan
    training: Sequence[Record]
    normalise: str
    digest: str
    folder: Path
    log: Path
    checkpoint_every: int = 50
    device_map: str | None = None
    answers: Path | None = None

    @property
    def seed(self) -> int:
        """The cell's seed."""
        return self.plan.seed

    @property
    def head(self) -> dict[str, Any]:
        """What must be the same for a folder to be resumed."""
        return {
            "schema_version": SCHEMA_VERSION,
            "digest": self.digest,
            "editor": self.name,
            "seed": self.seed,
            "mode": self.plan.mode,
            "sizes": list(self.plan.stops),
            "cases_a_batch": CASES_A_BATCH,
        }


@dataclass
class LoadedModel:
    """A loaded model on which one process runs cells, one after the other.

    Attributes:
        model, tok: as loaded; an editor may change the model, :meth:`clear` brings it back.
    """

    name: str
    device: str
    dtype: str
    device_map: str | None = None
    model: Any = field(init=False)
    tok: Any = field(init=False)

    def __post_init__(self) -> None:
        self._inference: tuple[float, int] | None = None
        self._load()

    def _load(self) -> None:
        self.model, self.tok = load_model(self.name, self.device, self.dtype, self.device_map)
        self.base = BaseWeights(self.model, self.tok)
        self._row: tuple[str, Editor, float] | None = None

    def clear(self) -> None:
        """Bring the base model back; a new one where an editor rebuilt it."""
        try:
            self.base.restore(self.model)
        except KgtError:
            self._load()

    def inference(self, records: Sequence[Record]) -> tuple[float, int]:
        """Median seconds and peak bytes of plain inference, measured the first time it is asked for."""
        if self._inference is None:
            self._inference = plain_inference(self.model, self.tok, records)
        return self._inference

    def prepared(self, task: CellTask, advance: Advance = quiet, note: Note = quiet) -> tuple[Editor, float]:
        """The task's editor, prepared, and the seconds that took; kept for the next seed of the same row.

        Raises:
            PreparationError: says why it cannot be.
        """
        if self._row is None or self._row[0] != task.name:
            self._row = None
            start = time.perf_counter()
            try:
                editor = task.editor_class(task.hparams)
                editor.prepare(self.model, self.tok, task.training, advance)
            except Exception as error:
                raise PreparationError(one_line(error)) from error
            seconds = time.perf_counter() - start
            if seconds > 1:
                note(f"{task.name}, preparation: {seconds:.1f} s")
            self._row = (task.name, editor, seconds)
        return self._row[1:]


def run_task(
    task: CellTask,
    loaded: LoadedModel | None = None,
    advance: Advance = quiet,
    note: Note = quiet,
) -> None:
    """Run a cell, or what is missing of it, in this process; its folder is complete when the call returns.

    Args:
        task: what to do.
        loaded: with the task's model loaded; it is loaded here without one.
        advance: progress, ``(stage, done, total)``.
        note: told what was found broken and is done again, and where a cell goes on.

    Raises:
        InUseError: another process works on this cell.
        PreparationError: the editor cannot be prepared.
        DiskError: its folder cannot be written.
        Exception: whatever went wrong with the cell; what was measured of it stays in the folder, and the same task
            goes on from there.
    """
    with CellFolder.opened(task.folder, task.head, task.normalise, task.checkpoint_every, note) as log:
        if log.complete:
            return
        loaded = loaded or LoadedModel(task.model, task.device, task.dtype, task.device_map)
        loaded.clear()
        before = BaseAnswers(task.answers, loaded.base.fingerprint)
        task.plan.ask_before(loaded.model, loaded.tok, before, advance)
        forward_seconds, inference_bytes = loaded.inference(task.plan.records)
        editor, seconds = loaded.prepared(task, advance, note)
        log.set_costs(
            {
                "forward_seconds": forward_seconds,
                "inference_memory_bytes": inference_bytes,
                "preparation_seconds": seconds,
            }
        )
        try:
            run_cell(editor, loaded.model, loaded.tok, task.plan, loaded.base, log, advance, before)
        except SpoiledCellError:
            log.spoil()
            raise
