"""benchmarks/upkeep/select_world_facts.py never replaces the shipped facts by nothing."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ONE = {
    "requested_rewrite": {
        "relation_id": "P103",
        "subject": "Ada Brun",
        "target_true": {"str": "French"},
    }
}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no usable fact of"),
        (gzip.compress(b""), "no usable fact of"),
        (gzip.compress((json.dumps(ONE) + "\n").encode()), "no usable fact of"),
        (gzip.compress(b"{}\n")[:-6], "cannot be read"),
        (b"no gzip", "cannot be read"),
    ],
    ids=["empty", "nothing zipped", "one fact", "cut off", "not zipped"],  # what is zipped has a time in it
)
def test_a_file_without_facts_of_every_relation_changes_nothing(
    load_script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: bytes,
    told: str,
) -> None:
    script = load_script("select_world_facts")
    world = tmp_path / "world"
    world.mkdir()
    for name in ("templates.yaml", "facts.tsv"):
        (world / name).write_bytes((script.WORLD / name).read_bytes())
    before = (world / "facts.tsv").read_bytes()
    monkeypatch.setattr(script, "WORLD", world)
    data = tmp_path / "data.jsonl.gz"
    data.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["select_world_facts.py", "--data", str(data)])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert (world / "facts.tsv").read_bytes() == before
