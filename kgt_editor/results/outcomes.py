"""What became of each edit, where an editor says so (``outcome`` among its ``edit_details()``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kgt_editor.errors import KgtError

#: Stored, and the model now answers it; stored, and the model still answers otherwise; it was in the graph already; it
#: is not in the graph (KGT's Algorithm 1 as printed may remove what it has just been told).
OUTCOMES = ("held", "kept but not followed", "restated", "dropped")


def outcome_of(details: Mapping[str, Any] | None) -> str | None:
    """The outcome among an edit's details; None where the editor gives none.

    Raises:
        KgtError: it is none of :data:`OUTCOMES`.
    """
    found = (details or {}).get("outcome")
    if found is not None and found not in OUTCOMES:
        known = ", ".join(f"'{name}'" for name in OUTCOMES)
        raise KgtError(f"an edit's details have the outcome {found!r}, which is none of {known}")
    return found


def count(outcomes: Iterable[str | None]) -> dict[str, int] | None:
    """How many edits have each of :data:`OUTCOMES`; None where no edit has any."""
    found = Counter(outcome for outcome in outcomes if outcome is not None)
    return {name: found[name] for name in OUTCOMES} if found else None
