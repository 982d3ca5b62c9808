"""Things by name: ours first, others by entry point or registration, wrong names with the nearest one."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from kgt_editor import registry
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.registry import Registry


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> Registry:
    point = importlib.metadata.EntryPoint("theirs", "json:dumps", "some.group")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "some.group" else [])
    return Registry("thing", "some.group", {"loads": "json:loads", "gone": "json:nothing"})


def test_ours_come_first_then_others_by_name(things: Registry) -> None:
    things.register("another", "json:load")
    assert things.names() == ["loads", "gone", "another", "theirs"]
    assert things.load("theirs")([1]) == "[1]"
    assert things.target("another") == "json:load"
    assert things.plugins() == {"theirs": "json:dumps", "another": "json:load"}


def test_a_wrong_name_is_told_with_the_nearest_one(things: Registry) -> None:
    with pytest.raises(UsageError, match=r"unknown thing 'load'; did you mean 'loads'\? known: loads, gone, theirs"):
        things.target("load")
    with pytest.raises(UsageError, match=r"unknown thing 'xyz'; known: loads"):
        things.load("xyz")


def test_what_cannot_be_registered_or_imported_is_named(things: Registry) -> None:
    with pytest.raises(UsageError, match="registered already"):
        things.register("loads", "json:load")
    with pytest.raises(UsageError, match="must have the form 'module:attribute'"):
        things.register("new", "json.load")
    with pytest.raises(KgtError, match=r"thing 'gone' \(json:nothing\) cannot be imported"):
        things.load("gone")


@pytest.mark.parametrize(
    ("option", "told"),
    [("--editors=kgtt", "did you mean 'kgt'"), ("--dataset=wolrd", "did you mean 'world'"), ("--modell=x", "--modell")],
)
def test_a_wrong_name_is_told_before_anything_heavy_is_imported(option: str, told: str) -> None:
    code = "import sys; from kgt_editor.__main__ import main; "
    code += f"print(main(['compare', {option!r}]), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "2 False\n"
    assert told in done.stderr
