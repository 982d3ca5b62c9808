"""The files a run leaves behind: ``manifest.json``, ``records.jsonl``, ``cells.jsonl`` and ``summary.json``."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import kgt_editor
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.metrics import CASE_METRICS, CaseScores
from kgt_editor.evaluation.stats import latency, share_interval
from kgt_editor.lm.device_memory import DeviceMemory

# Goes up when a key changes its meaning or goes away; readers refuse a version they do not know. Keys may be added
# without: records of version 1 may lack ``request``, ``said`` and ``details``.
SCHEMA_VERSION = 1


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
    """An editor with a seed: everything the summary is made of.

    Attributes:
        recalled: hits on the known facts that no edit touched.
        peak_memory_bytes: see :func:`kgt_editor.lm.meter.measure`; the largest of the edits.
        device_memory: after the last edit of a sequence, as the driver counts it; None without a GPU, and where edits
            and evaluation take turns, as the evaluation's memory would be in it.
    """

    editor: str
    seed: int
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


class RunFolder:
    """One run's folder; every line is on disk before the next is measured."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, out: Path, label: str, config: dict[str, Any]) -> RunFolder:
        """A new folder ``<label>-<hash of config>-<counter>`` under ``out``."""
        digest = config_hash(config)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", label)
        counter = 1
        while True:
            path = out / f"{stem}-{digest}-{counter}"
            try:
                path.mkdir()
            except FileExistsError:
                counter += 1
            else:
                return cls(path)

    def append_case(self, editor: str, seed: int, case: CaseResult, normalise: str) -> None:
        """One line of ``records.jsonl``: a case under an editor, with all raw numbers."""
        scored = case.scores
        row = {
            "editor": editor,
            "seed": seed,
            **{key: value for key, value in vars(case).items() if key != "scores"},
            "metrics": scored.metrics(normalise) if scored else None,
            "raw": scored.as_dict() if scored else None,
        }
        self._append("records.jsonl", row)

    def append_cell(self, cell: CellResult, status: str, reason: str | None, **extra: Any) -> None:
        """One line of ``cells.jsonl``: an editor with a seed, what is not of a single case."""
        row = {
            "editor": cell.editor,
            "seed": cell.seed,
            "status": status,
            "reason": reason,
            "cases": len(cell.cases),
            "failed_edits": cell.failed_edits,
            "recalled": cell.recalled,
            "peak_memory_bytes": cell.peak_memory_bytes,
            "device_memory": cell.device_memory and asdict(cell.device_memory),
            **extra,
        }
        self._append("cells.jsonl", row)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file whole or not at all."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        part = self.path / f".{name}.part"
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, self.path / name)


def config_hash(config: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change with anything in ``config``."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def summary_row(cells: Sequence[CellResult], normalise: str, **facts: Any) -> dict[str, Any]:
    """The complete cells of one editor as a row of ``summary.json``.

    A metric's interval is over seeds, or over cases where there is one seed (see
    :func:`kgt_editor.evaluation.stats.share_interval`); a metric no record has a prompt for is null.
    ``edit_seconds`` leaves failed edits out, ``failed_edits`` counts them.
    """
    metrics: dict[str, Any] = {}
    for name in CASE_METRICS:
        by_seed = []
        for cell in cells:
            values = [case.scores.metrics(normalise)[name] for case in cell.cases if case.scores]
            by_seed.append([value for value in values if value is not None])
        metrics[name] = share_interval(by_seed)
    metrics["unedited_recall"] = share_interval([[float(hit) for hit in cell.recalled] for cell in cells])
    counted = [cell.device_memory for cell in cells if cell.device_memory]
    largest = max(counted, key=lambda one: one.used, default=None)
    return {
        "editor": cells[0].editor,
        **facts,
        "seeds": [cell.seed for cell in cells],
        "metrics": {name: interval and asdict(interval) for name, interval in metrics.items()},
        "edit_seconds": latency([cell.edit_seconds for cell in cells]),
        "peak_memory_bytes": max(cell.peak_memory_bytes for cell in cells),
        "device_memory": largest and asdict(largest),
        "failed_edits": sum(cell.failed_edits for cell in cells),
    }


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def environment(device: Any) -> dict[str, Any]:
    """What a run was made with: versions, device, threads and, in a git checkout, the commit."""
    import torch

    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in ("kgt_editor", "torch", "transformers", "numpy")},
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
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
