"""What is measured: an edit, a case, a cell, and what a run was made with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import kgt_editor
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.metrics import CaseScores
from kgt_editor.lm.device_memory import DeviceMemory

# Goes up when a key changes its meaning or goes away; readers refuse a version they do not know. Keys may be added
# without. Version 2: a line of records.jsonl and of cells.jsonl, and a row of the summary, holds for the number of
# edits in its ``size``; in version 1 a run had one. Version 3: every case has ``same_subject_kept`` and
# ``neighbourhood_kept``, and a row says what became of its edits; a run of version 2 cannot be gone on with, as half of
# its cells would lack them.
SCHEMA_VERSION = 3


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
        said: the model's greedy answer to the query when the case was evaluated; None where it gives no text.
        details: what the edit changed, where a person can read it; see ``Editor.edit_details``.
    """

    case_id: int
    position: int
    edit_seconds: float | None
    failure: str | None
    scores: CaseScores | None
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
    device_memory: DeviceMemory | None = None

    @property
    def edit_seconds(self) -> list[float]:
        """Seconds of the edits that did not fail, in order."""
        return [case.edit_seconds for case in self.cases if case.edit_seconds is not None]

    @property
    def failed_edits(self) -> int:
        """How many edits failed; such a record counts as not edited in every metric."""
        return sum(case.failure is not None for case in self.cases)


def case_row(editor: str, seed: int, size: int, case: CaseResult, normalise: str) -> dict[str, Any]:
    """A line of ``records.jsonl``: a case under an editor after ``size`` edits, with all raw numbers."""
    scored = case.scores
    return {
        "editor": editor,
        "seed": seed,
        "size": size,
        **{key: value for key, value in vars(case).items() if key != "scores"},
        "metrics": scored.metrics(normalise) if scored else None,
        "raw": scored.as_dict() if scored else None,
    }


def check_writable(folder: Path) -> None:
    """Make the output folder and find out whether files can be written there.

    Raises:
        UsageError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot write to the output folder {folder}: {reason}; give another with --out") from None


def config_hash(config: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change with anything in ``config``."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def environment(device: Any) -> dict[str, Any]:
    """What a run was made with: versions, device, threads and, in a git checkout, the commit."""
    import torch

    from kgt_editor.lm.device_memory import driver_version

    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in ("kgt_editor", "torch", "transformers", "numpy")},
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "driver": driver_version() if on_gpu else None,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "git": git_state(Path(kgt_editor.__file__).parent),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and whether tracked files differ from it; None where ``folder`` is not part of a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # a folder may lie in somebody else's checkout
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
