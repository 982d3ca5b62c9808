"""What is asked of a run: its options as typed values, and all that can be checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from kgt_editor.data import base as data_base
from kgt_editor.data.base import DataSet
from kgt_editor.data.extension import read_questions
from kgt_editor.data.order import in_order
from kgt_editor.editors.base import Editor, create_editor, get_editor_class, names
from kgt_editor.errors import UsageError
from kgt_editor.lm.loading import check_model, check_placement, model_revision, tell_slow_dtype
from kgt_editor.results.run_folder import RunFolder, check_writable


class RunConfig(BaseModel):
    """What is compared, on what, and how; the fields are the options of ``benchmarks/compare.py``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    editors: tuple[str, ...]
    model: str
    dataset: str
    data: Path | None = None
    same_subject: Path | None = None
    order: Path | None = None
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
    texts: bool = False
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
    """A checked request: everything that can be wrong before a model is loaded has been looked at.

    Attributes:
        config: what was asked.
        editors: by the names of their rows.
        data: the data set.
        out: where runs go.
        shipped: where the YAMLs lie that serve where ``config.hparams_dir`` has none.
    """

    config: RunConfig
    editors: dict[str, Editor]
    data: DataSet
    out: Path
    shipped: Path | None = None

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
    config: RunConfig,
    out: Path,
    progress: Callable[[int, int | None], None] | None = None,
    here: bool = True,
    shipped: Path | None = None,
) -> Request:
    """Look at everything in a request that can be wrong, cheapest first, before anything heavy starts.

    Args:
        config: what was asked.
        out: where results go.
        progress: told the bytes of a data set's download.
        here: whether the cells run on this machine, so that it must have the device.
        shipped: where YAMLs lie that serve where ``config.hparams_dir`` has none.

    Raises:
        UsageError: unknown editor, model, data set, device, hyperparameter; a broken file; a size above the pool; a
            folder that cannot be written.
    """
    rows = row_names(config.editors)
    for name in rows:
        get_editor_class(name)
    if here:
        check_placement(config.device, config.device_map)
        if config.device_map is None:
            tell_slow_dtype(config.device, config.dtype)
    questions = read_questions(config.same_subject) if config.same_subject else ()
    data = data_base.load(config.dataset, config.data, progress, questions).reaching(config.count)
    if data.histories and not data.records:
        raise UsageError(f"data set '{config.dataset}' holds users' histories, no edits to compare")
    if any(record.steps for record in data.records):
        raise UsageError(
            f"data set '{config.dataset}' is told in steps, not in edits: run benchmarks/measure/conflicts.py"
        )
    data.sample(config.count, 0)
    if config.order:
        data = in_order(data, config.order, config.count, config.seeds)
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
        editors[name] = create_editor(name, config.model, config.hparams_dir, changes, shipped)
    check_writable(out)
    return Request(config, editors, data, out, shipped)


def hparams_sources(request: Request) -> dict[str, str]:
    """Where each row's hyperparameters come from, for the manifest: ``given``, ``shipped`` or ``derived``, and from
    what. Rows without any are left out."""
    sources = {}
    for name, editor in request.editors.items():
        if (origin := editor.origin) is None:
            continue
        if origin.path is None:
            sources[name] = f"derived: {origin.derived}"
        else:
            kind = "given" if _given(request, origin.path) else "shipped"
            sources[name] = f"{kind}: {_short(origin.path)}"
    return sources


def hparams_notes(request: Request) -> list[str]:
    """A line for each row whose hyperparameters do not simply come from the shipped YAML of the model."""
    asked, notes = request.config.hparams_dir, []
    for name, editor in request.editors.items():
        if (origin := editor.origin) is None:
            continue
        if origin.path is None:
            wanted = _short(origin.wanted)
            notes.append(f"{name}: no {wanted}; defaults derived from the architecture ({origin.derived})")
        elif _given(request, origin.path):
            if origin.path.is_relative_to(asked):  # EasyEdit's own YAMLs lie elsewhere
                notes.append(f"{name}: hyperparameters of {origin.path}")
        elif request.shipped not in (None, asked):
            notes.append(f"{name}: nothing for it in {asked}; hyperparameters of the shipped {_short(origin.path)}")
        if origin.note:
            notes.append(f"{name}: {origin.note}")
    return notes


def _given(request: Request, path: Path) -> bool:
    """Whether a YAML lies in a folder that was asked for, not among the shipped ones."""
    return request.shipped is not None and not path.is_relative_to(request.shipped)


def _short(path: Path) -> Path:
    """``hparams/KGT/gpt2.yaml``, without what says more of the machine than of the run."""
    return Path(*path.parts[-3:])


def _applies(target: str, row: str) -> bool:
    """``kgt`` stands for itself and all its presets, ``kgt:paper`` for that preset alone."""
    return target in (row, row.split(":", 1)[0])


def resolved_config(request: Request) -> dict[str, Any]:
    """The request as the manifest holds it: with every hyperparameter, and the revision of the data."""
    config = request.config
    revision = model_revision(config.model)
    asked = config.model_dump(mode="json")
    if config.order is None:  # runs from before there were orders are still the same runs
        del asked["order"]
    return {
        **asked,
        **({} if revision is None else {"model_revision": revision}),
        # Where the YAMLs lie says nothing of the run (their content is below) and much of the machine.
        "hparams_dir": config.hparams_dir.name,
        "editors": list(request.editors),
        "hparams": {name: editor.hparams.model_dump(mode="json") for name, editor in request.editors.items()},
        "data_revision": request.data.revision,
    }
