"""A run's folder: named by its configuration, refused to others, mended where a process was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.results import lines
from kgt_editor.results.lines import DiskError
from kgt_editor.results.lock import InUseError
from kgt_editor.results.run_folder import RunFolder, config_hash
from kgt_editor.results.schema import SCHEMA_VERSION

CONFIG = {"editors": ["none"], "sizes": [2]}


def begun(path, config=CONFIG, **changes):
    path.mkdir(parents=True)
    manifest = {"schema_version": SCHEMA_VERSION, "config": config, **changes}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


RECORD = {
    **{"case_id": 0, "edit_seconds": 0.1, "failure": None, "recalled": [], "request": None, "said": None},
    **{"details": None, "metrics": None, "raw": None},
}
CELL = {
    **{"status": "complete", "reason": None, "failed_edits": 0, "first_failure": None, "edit_outcomes": None},
    **{"recalled": [], "peak_memory_bytes": 1, "device_memory": None},
}


def cell_folder(path, editor="none", seed=0, sizes=(2,), complete=(2,)):
    path.mkdir(parents=True)
    (path / "head.json").write_text(
        json.dumps({"editor": editor, "seed": seed, "sizes": list(sizes), "mode": "sequential", "costs": {}})
    )
    for size in complete:
        told = {"editor": editor, "seed": seed, "size": size}
        lines.append(path / f"records-{size}.jsonl", [{**RECORD, **told, "position": number} for number in range(size)])
        lines.append(path / "cells.jsonl", [{**CELL, **told, "cases": size}])
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_configuration_names_the_folder(tmp_path):
    first = RunFolder.place(tmp_path, "a/b world 5", {"x": 1})
    assert first.name == f"a_b_world_5-{config_hash({'x': 1})}"
    assert len(config_hash({"x": 1})) == 8
    assert RunFolder.place(tmp_path, "a/b world 5", {"x": 2}) != first


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({"schema_version": 1}, f"is of schema version 1, this is version {SCHEMA_VERSION}"),
        ({"schema_version": 99}, f"is of schema version 99, this is version {SCHEMA_VERSION}"),
        ({"config": {"editors": ["none"], "sizes": [3], "x": 1}}, "is of a run with another sizes, x"),
    ],
)
def test_another_run_in_the_folder_is_refused_with_a_line(tmp_path, manifest, told):
    path = begun(tmp_path / "run", **{"config": CONFIG} | manifest)
    with pytest.raises(UsageError, match=told) as raised, RunFolder.opened(path, CONFIG):
        pass
    assert "--out" in str(raised.value)
    assert "\n" not in str(raised.value)
    with RunFolder.opened(path, CONFIG, anew=True) as folder:
        assert folder.manifest() is None


def test_a_broken_manifest_is_refused_with_a_line(tmp_path):
    path = begun(tmp_path / "run")
    (path / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match=r"manifest\.json cannot be read"), RunFolder.opened(path, CONFIG):
        pass


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("name", ["records.jsonl", "cells", "cells/none-0", "base_answers"])
def test_a_link_in_the_folder_is_refused_and_what_it_points_to_left_alone(tmp_path, name, anew):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "letter").write_text("mine")
    path = begun(tmp_path / "run")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).symlink_to(elsewhere / "letter" if name.endswith("jsonl") else elsewhere)
    with (
        pytest.raises(UsageError, match=f"{name} is a symbolic link.*--out"),
        RunFolder.opened(path, CONFIG, anew=anew),
    ):
        pass
    assert (elsewhere / "letter").read_text() == "mine"
    assert [child.name for child in elsewhere.iterdir()] == ["letter"]


def test_the_folder_itself_may_lie_elsewhere(tmp_path):
    (tmp_path / "on-another-disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "on-another-disk")
    with RunFolder.opened(tmp_path / "run", CONFIG) as folder:
        assert folder.manifest() is None


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path):
    other = "import sys; from pathlib import Path; from kgt_editor.results.lock import held\n"
    other += "with held(Path(sys.argv[1])): print('got it')"
    command = [sys.executable, "-c", other, str(tmp_path / "run")]
    with RunFolder.opened(tmp_path / "run", CONFIG):
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"{tmp_path / 'run'} is in use by process {os.getpid()} on " in refused.stderr.splitlines()[-1]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "got it\n"


def test_the_same_process_cannot_open_it_twice_either(tmp_path):
    with (
        RunFolder.opened(tmp_path / "run", CONFIG),
        pytest.raises(InUseError, match="in use by process"),
        RunFolder.opened(tmp_path / "run", CONFIG),
    ):
        pass


def test_a_finished_cell_is_taken_in_once_and_its_folder_goes(tmp_path):
    with RunFolder.opened(begun(tmp_path / "run"), CONFIG) as folder:
        cell = cell_folder(folder.cell("none", 0))
        assert [(row["editor"], row["size"]) for row in folder.gather(cell)] == [("none", 2)]
        assert not (folder.path / "cells").exists()
        again = cell_folder(folder.cell("none", 0))
        assert folder.gather(again) == []
    assert len(read(tmp_path / "run" / "records.jsonl")) == 2
    assert len(read(tmp_path / "run" / "cells.jsonl")) == 1
    with RunFolder.opened(tmp_path / "run", CONFIG) as folder:
        assert folder.done == {("none", 0, 2)}


def test_of_a_cell_under_way_the_sizes_that_are_done_are_taken_in(tmp_path):
    with RunFolder.opened(begun(tmp_path / "run"), CONFIG) as folder:
        cell = cell_folder(folder.cell("kgt:paper", 0), "kgt:paper", sizes=(2, 4, 8), complete=(2, 4))
        assert cell.name == "kgt-paper-0"
        assert [row["size"] for row in folder.gather(cell)] == [2, 4]
        assert cell.is_dir()
        assert folder.gather(cell) == []
        empty = folder.cell("none", 0)
        empty.mkdir()
        assert folder.gather(empty) == []  # its process was killed before it began


@pytest.mark.parametrize("name", ["records.jsonl", "cells.jsonl"])
@pytest.mark.parametrize("cut", [1, 12])
def test_a_kill_while_a_cell_is_taken_in_loses_and_doubles_nothing(tmp_path, monkeypatch, name, cut):
    with RunFolder.opened(begun(tmp_path / "run"), CONFIG) as folder:
        folder.gather(cell_folder(folder.cell("none", 0)))
        cell = cell_folder(folder.cell("none", 1), seed=1)
        wanted = {path: path.read_bytes() for path in (folder.path / "records.jsonl", folder.path / "cells.jsonl")}
        with monkeypatch.context() as patched:
            patched.setattr("kgt_editor.results.run_folder.shutil.rmtree", lambda path: None)
            folder.gather(cell)
    whole = (tmp_path / "run" / name).read_bytes()
    (tmp_path / "run" / name).write_bytes(whole[:-cut])
    if name == "records.jsonl":  # then the cell's line was not written yet
        (tmp_path / "run" / "cells.jsonl").write_bytes(wanted[tmp_path / "run" / "cells.jsonl"])
    with RunFolder.opened(tmp_path / "run", CONFIG) as folder:
        assert folder.done == {("none", 0, 2)}
        assert {path: path.read_bytes() for path in wanted} == wanted
        assert len(folder.gather(cell)) == 1
    assert (tmp_path / "run" / name).read_bytes() == whole


def test_a_corrupt_last_line_is_cut_off_said_so_and_measured_again(tmp_path):
    with RunFolder.opened(begun(tmp_path / "run"), CONFIG) as folder:
        for seed in (0, 1):
            folder.gather(cell_folder(folder.cell("none", seed), seed=seed))
    path = tmp_path / "run" / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-20] + b"\xff\xfe garbage\n")
    told = []
    with RunFolder.opened(tmp_path / "run", CONFIG, told.append) as folder:
        assert folder.done == {("none", 0, 2)}
    assert told == [
        "run/records.jsonl: its last line was broken and is cut off; what it told is done again",
        "records.jsonl does not hold all of 'none', seed 1, 2 edits; measured again",
    ]
    assert [row["seed"] for row in read(path)] == [0, 0]
    assert [row["seed"] for row in read(tmp_path / "run" / "cells.jsonl")] == [0]


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    with RunFolder.opened(begun(tmp_path / "run"), CONFIG) as folder:
        folder.gather(cell_folder(folder.cell("none", 0)))
    path = tmp_path / "run" / "records.jsonl"
    path.write_text("{\n" + path.read_text())
    with (
        pytest.raises(KgtError, match=r"records\.jsonl, line 1: not valid JSON"),
        RunFolder.opened(path.parent, CONFIG),
    ):
        pass


def test_a_json_file_is_replaced_whole(tmp_path):
    with RunFolder.opened(tmp_path / "run", CONFIG) as folder:
        folder.write("summary.json", {"rows": []})
        with pytest.raises(ValueError, match="Out of range float"):
            folder.write("summary.json", {"rows": [float("nan")]})
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"rows": []}
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"summary.json", ".lock"}


def test_a_full_disk_is_one_line_that_says_what_to_do():
    with pytest.raises(DiskError, match=r"cannot write /dev/full: No space left on device; .*same command again"):
        lines.append(type(lines.Path())("/dev/full"), [{"x": 1}])
