"""Whether what a run's files hold has the form that readers count on: they may come from anywhere, or be damaged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LARGEST = 2**63
_NAMES = {"anything": "value of JSON", "storable": "value of JSON without NaN", "row": "object"}


@dataclass(frozen=True)
class Each:
    """An object whose keys are names and whose values are all of one form."""

    of: Any


def number(value: Any) -> bool:
    """A number that can be counted with; NaN, which a model of a destroyed row gives, is one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (math.isnan(value) or abs(value) < 1e300)


def whole(value: Any) -> bool:
    """A whole number of 63 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def text(value: Any) -> bool:
    """A text that can be written out."""
    return isinstance(value, str) and _encodes(value)


def anything(value: Any) -> bool:
    """Any value, texts in it that can be written out."""
    return _throughout(value, lambda one: text(one) or not isinstance(one, str))


def storable(value: Any) -> bool:
    """Any value that can be written out as JSON: with no NaN in it, which JSON has not."""
    return _throughout(value, lambda one: math.isfinite(one) if isinstance(one, float) else anything(one))


def _throughout(value: Any, fits: Callable[[Any], bool]) -> bool:
    """Whether the names in a value will do as texts, and what is in neither list nor object fits."""
    if isinstance(value, dict):
        return all(text(key) and _throughout(one, fits) for key, one in value.items())
    return all(_throughout(one, fits) for one in value) if isinstance(value, list) else fits(value)


def mismatch(value: Any, form: Any, where: str = "") -> str | None:
    """What is wrong with a value, and where; None where nothing is.

    Args:
        value: of JSON.
        form: a function that tells whether a value will do; None; a tuple of forms of which one has to fit; a list with
            the form of its members; an object of forms, in which a key that ends in ``?`` may be absent and other keys
            may stand; or :class:`Each`.
        where: what the value is called.
    """
    if form is None:
        return None if value is None else f"{where} has to be null"
    if callable(form):
        return None if form(value) else f"{where or 'it'} has to be a {_NAMES.get(form.__name__, form.__name__)}"
    if isinstance(form, tuple):
        found = [mismatch(value, one, where) for one in form]
        return None if None in found else found[-1]
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{where} has to be a list"
        return next(filter(None, (mismatch(one, form[0], f"{where}[{n}]") for n, one in enumerate(value))), None)
    if not isinstance(value, dict):
        return f"{where or 'it'} has to be an object"
    if isinstance(form, Each):
        return next(filter(None, (mismatch(one, form.of, f"{where}.{key}") for key, one in value.items())), None)
    for name, own in form.items():
        key = name.removesuffix("?")
        if key not in value:
            if name == key:
                return f"{where}: '{key}' is missing" if where else f"'{key}' is missing"
        elif found_here := mismatch(value[key], own, f"{where}.{key}" if where else key):
            return found_here
    return None


def truth(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def row(value: Any) -> bool:
    """An object of any values that can be written out."""
    return isinstance(value, dict) and storable(value)


_SHARE = (None, {"mean": number, "low": number, "high": number})
_COUNTS = (None, Each(whole))
MANIFEST = {
    "run?": text,
    "command?": [text],
    "config": {
        "editors": [text], "model": text, "dataset": text, "seeds": whole, "mode": text, "normalise": text,
        "sizes?": [whole], "size?": whole, "limit?": (None, whole), "known_only?": (None, truth), "dtype?": text,
        "data_revision?": (None, text), "hparams?": Each(Each(anything)),
    },
    "environment?": (
        None,
        {
            "git?": (None, {"commit": text, "dirty?": (None, truth)}), "versions?": Each((None, text)),
            "device?": (None, text), "device_name?": (None, text), "threads?": (None, whole),
        },
    ),
    "data_provenance?": (None, Each((None, text))),
    "started?": (None, text), "ended?": (None, text), "status?": (None, text),
}  # fmt: skip
#: That of a run that goes on, whose configuration is the one that is asked for.
OWN_MANIFEST = {name: form for name, form in MANIFEST.items() if name != "config"} | {"resumed?": [row]}
CELL = {
    "editor": text, "seed": whole, "size?": whole, "status": text, "reason?": (None, text), "recalled": [truth],
    "peak_memory_bytes": number, "preparation_seconds?": (None, number), "forward_seconds?": (None, number),
    "inference_memory_bytes?": (None, number), "state_bytes?": (None, number),
}  # fmt: skip
#: A line of a run that may go on: one of these, and all that is added to it.
OWN_CELL = {
    **CELL, "size": whole, "cases": whole, "failed_edits": whole, "first_failure": (None, text),
    "edit_outcomes": (None, Each(whole)), "device_memory": (None, {"used": whole}),
}  # fmt: skip
EDIT = {
    "position": whole, "case_id": whole, "seconds": (None, number), "failure": (None, text), "peak_bytes": whole,
    "details": (None, row),
}  # fmt: skip
HEAD = {"editor": text, "seed": whole, "sizes": [whole], "mode": text, "costs": row}
RECORD = {
    "editor": text, "seed": whole, "size?": whole, "case_id": whole, "position": whole, "failure": (None, text),
    "edit_seconds": (None, number), "metrics": (None, Each((None, number))), "request?": (None, Each((None, text))),
    "said?": (None, text),
    "details?": (
        None,
        {
            "outcome?": (None, text), "before?": (None, number), "after?": (None, number),
            "triples?": [
                {"triple": [text], "change": text, "retrieval?": (None, number), "reasoning?": (None, number)}
            ],
        },
    ),
}  # fmt: skip
#: A line of a run that may go on.
OWN_RECORD = {
    **RECORD, "size": whole, "recalled": [truth], "request": (None, Each((None, text))), "said": (None, text),
    "details": (None, {"outcome?": (None, text)}),
    "raw": (
        None,
        {
            "silence?": (None, Each(whole)), "undecided?": (None, Each(whole)), "superseded?": truth,
            "kinds?": (None, Each(Each(whole))),
        },
    ),
}  # fmt: skip
SUMMARY = {
    "rows": [
        {
            "editor": text, "size?": whole, "seeds?": [whole], "metrics?": Each(_SHARE),
            "edit_seconds?": (None, Each(number)), "edit_forwards?": (None, Each(number)),
            "peak_memory_bytes?": (None, number), "forward_seconds?": (None, number),
            "inference_memory_bytes?": (None, number), "preparation_seconds?": (None, number),
            "failed_edits?": whole, "dead?": (None, text), "undecided?": _COUNTS,
            "silence?": (None, {"asked": whole, "silent": whole}),
            "edit_outcomes?": _COUNTS, "kinds?": (None, Each({"asked": whole, "greedy?": whole, "contains?": whole})),
        }
    ],
    "failed?": [{"editor": text, "seed": (None, whole), "reason": text}],
    "missing?": [{"editor": text, "seed": whole, "sizes?": [whole]}],
    "comparisons?": (
        None,
        {
            "reference": text,
            "rows": [{"editor": text, "size": whole, "metrics": Each((None, {"p": number}))}],
            "best?": [{"size": whole, "metrics": Each((None, {"editor": text, "p": Each((None, number))}))}],
        },
    ),
}  # fmt: skip
