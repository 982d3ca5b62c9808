"""report.html: one file with everything in it, which asks no server for anything."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure

from kgt_editor.reporting import inline, render
from kgt_editor.reporting.payload import payloads
from kgt_editor.reporting.runs import Run
from kgt_editor.reporting.style import look, save
from kgt_editor.reporting.tables import Table


def svg(figure: Figure) -> str:
    """A figure as SVG text, the same bytes every time."""
    out = io.StringIO()
    save(figure, out, "svg")
    return out.getvalue()


def on_white(text: str) -> str:
    """SVG for a file of its own: a page behind it may be dark, its ink is too."""
    return re.sub(r"(<svg[^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', text, count=1)


def page(
    title: str,
    runs: Sequence[Run],
    notices: Sequence[str],
    tables: Sequence[Table],
    figures: Iterable[Shown],
) -> str:
    """The whole page.

    Args:
        title: its heading.
        runs: what it reports on.
        notices: what the reader has to know before the numbers.
        tables: from :func:`kgt_editor.reporting.tables.make_tables`.
        figures: in their order.
    """
    editors = {editor for run in runs for editor in run.config["editors"]}
    looks = {editor: [look(editor).colour, look(editor).hollow] for editor in sorted(editors)}
    packed = payloads(runs)
    parts = {
        "title": escape(title),
        "lead": escape(_lead(runs)),
        "notices": _notices(notices),
        "tables": "".join(map(render.to_html, tables)),
        "figures": "".join(map(_figure, figures)) or "<p class='muted'>There is nothing to draw.</p>",
        "edits": _part("edits.html") if packed else _NO_EDITS,
        "runs": "".join(map(_run, runs)),
        "payload": "\n".join(packed),
        "style": _part("page.css"),
        # "<" is written as an escape: an editor may be called "</script>".
        "script": f"const LOOKS = {_for_script(looks)};\n{_part('page.js')}",
    }
    return re.sub(r"@@(\w+)@@", lambda found: parts[found[1]], _part("page.html"))


_NO_EDITS = "<p class='muted'>No run here holds its edits: they are in the records.jsonl of a run.</p>"


def _part(name: str) -> str:
    return (files("kgt_editor.reporting") / "page" / name).read_text(encoding="utf-8")


def _for_script(value: Any) -> str:
    return json.dumps(value).replace("<", "\\u003c")


def _lead(runs: Sequence[Run]) -> str:
    models = ", ".join(dict.fromkeys(run.config["model"] for run in runs))
    datasets = ", ".join(dict.fromkeys(run.config["dataset"] for run in runs))
    count = f"{len(runs)} runs" if len(runs) > 1 else "One run"
    return (
        f"{count} of model editors on {models}, data set {datasets}, every number computed from the run folders alone."
    )


def _notices(notices: Sequence[str]) -> str:
    if not notices:
        return ""
    items = "".join(f"<li>{escape(notice)}</li>" for notice in notices)
    opened = " open" if len(notices) <= 6 else ""
    plural = "notice" if len(notices) == 1 else "notices"
    return (
        f'<details class="notices"{opened}><summary>{len(notices)} {plural}: read before the numbers'
        f"</summary><ul>{items}</ul></details>"
    )


@dataclass(frozen=True)
class Shown:
    """A figure as the page has it.

    Attributes:
        stem: of its file's name.
        title, caption: what stands above and below it.
        svg: its file's text.
        told: see :func:`kgt_editor.reporting.inline.name_lines`.
        points: the numbers that it shows.
    """

    stem: str
    title: str
    caption: str
    svg: str
    told: dict[str, str]
    points: list[inline.Point]


def _figure(shown: Shown) -> str:
    picture = inline.inline_svg(shown.svg, shown.title, shown.stem, shown.told)
    wide = " wide" if shown.stem.startswith("figure4") else ""
    return (
        f'<figure class="card{wide}" data-stem="{escape(shown.stem)}"><h3>{escape(shown.title)}</h3>'
        f'<p class="hint">Wider than the screen: move it sideways.</p>{picture}'
        f"<figcaption>{escape(shown.caption)}</figcaption>{inline.table(shown.points)}</figure>"
    )


def _provenance(known: Mapping[str, str] | None) -> str:
    """Licence, source and paper of a run's data; empty for a run from before they were recorded, or of a plugin."""
    return "; ".join(f"{name} {value}" for name, value in (known or {}).items() if value)


def _run(run: Run) -> str:
    config, made = run.config, run.environment
    git = made.get("git") or {}
    commit = f"{git['commit'][:12]}{', with changes' if git.get('dirty') else ''}" if git else "not from a checkout"
    edits = ", ".join(f"{size:,}" for size in run.sizes)
    facts = {
        "Model": f"{config['model']} ({config.get('dtype', 'float32')})",
        "Data": f"{config['dataset']}, revision {config.get('data_revision')}",
        "Data from": _provenance(run.manifest.get("data_provenance")),
        "Edits": f"{edits} {config['mode']}, {config['seeds']} seeds (0 to {config['seeds'] - 1})",
        "Editors": ", ".join(config["editors"]),
        "Commit": commit,
        "Device": f"{made.get('device_name')} ({made.get('device')}), {made.get('threads')} threads",
        "Versions": ", ".join(f"{name} {version}" for name, version in made.get("versions", {}).items()),
        "Time": f"{run.manifest.get('started')} to {run.manifest.get('ended', '(not ended)')}",
        "Status": run.manifest.get("status"),
        "Command": " ".join(run.manifest.get("command", ())),
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items() if value != "")
    settings = escape(json.dumps(config, indent=2, ensure_ascii=False))
    return (
        f'<article class="run card"><h3>{escape(run.name)}</h3><dl>{rows}</dl>'
        f"<details><summary>Configuration</summary><pre>{settings}</pre></details></article>"
    )
