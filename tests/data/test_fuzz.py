"""Whatever a file holds, a loader reads it or says in one line that names the file why not."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path

import pytest
from data_builders import flat, hard, rome, zsre
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgt_editor.data.base import load
from kgt_editor.data.check import check_file
from kgt_editor.data.extension import build_records, read_facts
from kgt_editor.errors import KgtError

FACT = {"subject": "Ada Brun", "relation_id": "P19", "object": "Velmora", "object_id": "Q1"}
HISTORY = {"user_id": 5, "profile": [{"id": 1, "text": "a"}], "query": [{"input": "x", "gold": "y"}]}


def extension(path):
    build_records(read_facts(path))


READERS = {
    "counterfact in ROME's layout": (lambda path: load("counterfact", path), [rome(number) for number in range(3)]),
    "counterfact in EasyEdit's": (lambda path: load("counterfact", path), [flat(number) for number in range(3)]),
    "counterfact-extension": (lambda path: load("counterfact-extension", path), [rome(number) for number in range(2)]),
    "zsre": (lambda path: load("zsre", path), [zsre(), zsre(alt="Quindle")]),
    "counterfact-hard": (lambda path: load("counterfact-hard", path), [hard(0), hard(1)]),
    "lamp": (lambda path: load("lamp", path), [HISTORY, HISTORY]),
    "facts": (extension, [FACT, FACT | {"subject": "Ines", "object": "Tarsil", "object_id": None}]),
    "check": (check_file, [rome(0), flat(1), zsre(), hard(2)]),
}

strange = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.just("{}"),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=4), st.none(), max_size=2),
)


@st.composite
def other_values(draw, rows):
    """The rows with a few values anywhere replaced, or keys taken out."""
    rows = copy.deepcopy(rows)
    for _ in range(draw(st.integers(1, 3))):
        inner = rows
        while True:
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(inner[key], dict | list) or not inner[key] or draw(st.integers(0, 3)) == 0:
                if isinstance(inner, dict) and draw(st.booleans()):
                    del inner[key]
                else:
                    inner[key] = draw(strange)
                break
            inner = inner[key]
    return rows


@st.composite
def files(draw, rows):
    """Bytes of a file: other values in it, lines or a list, other bytes, cut off, zipped, and what is zipped again."""
    if draw(st.booleans()):
        rows = draw(other_values(rows))
    ascii_only = draw(st.booleans())
    if draw(st.booleans()):
        text = json.dumps(rows, ensure_ascii=ascii_only, indent=draw(st.sampled_from([None, 1])))
    else:
        text = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
    raw = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])), errors="replace")
    zipped = draw(st.booleans())
    for when in (False, True):
        if when and zipped:
            raw = gzip.compress(raw, mtime=0)
        if draw(st.booleans()) and raw:
            at = draw(st.integers(0, len(raw)))
            raw = raw[:at] + draw(st.binary(max_size=4)) + raw[at + draw(st.integers(0, 4)) :]
        if draw(st.integers(0, 3)) == 0:
            raw = raw[: draw(st.integers(0, len(raw)))]
    return raw


def attempt(folder: Path, name: str, raw: bytes) -> None:
    """Read the bytes; a ``KgtError`` must be one line that names the file, and nothing else may be raised."""
    path = folder / "fuzzed.json"
    path.write_bytes(raw)
    try:
        READERS[name][0](path)
    except KgtError as error:
        message = str(error)
        assert "\n" not in message, message
        assert len(message) < 2000, message
        # An impossible counterfactual is about the facts as a whole.
        assert str(path) in message or message.startswith("relation "), message


def case(name):
    return st.tuples(st.just(name), files(READERS[name][1]))


any_case = st.sampled_from(sorted(READERS)).flatmap(case)
checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=300, deadline=None, suppress_health_check=checks, derandomize=True)
@given(drawn=any_case)
def test_no_file_gives_a_traceback(tmp_path, drawn):
    attempt(tmp_path, *drawn)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=checks)
@given(drawn=any_case)
def test_no_file_of_ten_thousand_gives_a_traceback(tmp_path, drawn):
    attempt(tmp_path, *drawn)


@pytest.mark.parametrize("name", READERS)
def test_the_files_that_are_fuzzed_are_good_ones(tmp_path, name):
    path = tmp_path / "good.json"
    path.write_text(json.dumps(READERS[name][1]))
    READERS[name][0](path)
