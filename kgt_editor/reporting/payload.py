"""The edits of a run with a seed, packed for the page: columns over one table of strings, gzip, base64."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Sequence
from typing import Any

from kgt_editor.graph.relations import verbalise
from kgt_editor.reporting.names import editor_label, in_order
from kgt_editor.reporting.runs import Run

_CHANGES = {"added": 0, "removed": 1, "kept": 2}


def payloads(runs: Sequence[Run]) -> list[str]:
    """One ``<script>`` element for each run and seed whose edits can be read; data, never run."""
    found = []
    for run in runs:
        for seed in sorted({seed for _, seed in run.answers}):
            title = f"{run.name}, seed {seed}"
            data = base64.b64encode(gzip.compress(_packed(run, seed), mtime=0)).decode()
            found.append(f'<script type="application/x-kgt-edits" data-title="{html.escape(title)}">{data}</script>')
    return found


class _Strings:
    """Texts by number; None is -1."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        return -1 if text is None else self.numbers.setdefault(text, len(self.numbers))


def _packed(run: Run, seed: int) -> bytes:
    strings = _Strings()
    number = strings.number
    asked = sorted(
        (position, case, request) for (one, case), (position, request) in run.requests.items() if one == seed
    )
    cases = [case for _, case, _ in asked]

    def column(name: str) -> list[int]:
        return [number(request.get(name)) for _, _, request in asked]

    columns: dict[str, list[Any]] = {
        "case_id": cases,
        "position": [position for position, _, _ in asked],
        "query": column("query"),
        "subject": column("subject"),
        "relation": [number(relation_label(request.get("relation_id"))) for _, _, request in asked],
        "answer": column("target_new"),
        "truth": column("target_true"),
        "before": [number(run.said_before.get((seed, case))) for case in cases],
    }
    names = in_order(name for name, one in run.answers if one == seed)
    # Whose graph can be read comes first.
    names.sort(key=lambda name: (name, seed) not in run.edits)
    editors = [_editor(run, name, seed, cases, strings) for name in names]
    content = {"strings": list(strings.numbers), "columns": columns, "editors": editors}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _editor(run: Run, name: str, seed: int, cases: Sequence[int], strings: _Strings) -> dict[str, Any]:
    """What became of every edit; null for a case that this editor's cell does not have."""
    number = strings.number
    answers = [run.answers[name, seed].get(case) for case in cases]
    packed: dict[str, Any] = {
        "name": editor_label(name),
        "said": [number(one.said) if one else -1 for one in answers],
        "held": [one.held if one else None for one in answers],
        "failure": [number(one.failure) if one else -1 for one in answers],
    }
    if (name, seed) in run.edits:
        by_case = {edit.case_id: edit for edit in run.edits[name, seed]}
        edits = [by_case.get(case) for case in cases]
        packed |= {
            "p_before": [edit.before if edit else None for edit in edits],
            "p_after": [edit.after if edit else None for edit in edits],
            "triples": [
                [
                    [number(head), number(relation), number(tail), _CHANGES[change], *numbers]
                    for head, relation, tail, change, *numbers in (edit.triples if edit else ())
                ]
                for edit in edits
            ],
        }
    return packed


def relation_label(relation: str | None) -> str | None:
    """A record's relation in words: ``P103`` is "has native language"; None where the record names none."""
    return verbalise(relation) if relation and relation.strip() else None
