"""benchmarks/sweep.py: which points a grid stands for, and a whole small sweep."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kgt_editor.editors.ft import FTHParams
from kgt_editor.editors.hypernet.mend import MENDHParams
from kgt_editor.errors import UsageError
from kgt_editor.kgt.hparams import KGTHyperParams

ROOT = Path(__file__).parents[1]


@pytest.fixture
def sweep(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("sweep")


def test_layers_are_every_block_in_turn(sweep: ModuleType) -> None:
    hparams = FTHParams.from_hparams(ROOT / "hparams/FT/testbed-gpt2.yaml")
    assert sweep.points(["layers"], hparams, 3) == [{"layers": [0]}, {"layers": [1]}, {"layers": [2]}]
    two = hparams.model_copy(update={"layers": (0, 1)})
    assert sweep.points(["layers"], two, 3) == [{"layers": [0, 1]}, {"layers": [1, 2]}]


def test_layers_of_named_weights_are_windows_as_wide_as_the_yamls(sweep: ModuleType) -> None:
    hparams = MENDHParams.from_hparams(ROOT / "hparams/MEND/testbed-gpt2.yaml")
    found = sweep.points(["layers"], hparams, 5)
    assert len(found) == 3
    assert sorted(found[0]["inner_params"]) == sorted(hparams.inner_params)
    assert {name.split(".")[2] for name in found[2]["inner_params"]} == {"2", "3", "4"}


def test_grids_are_crossed(sweep: ModuleType) -> None:
    hparams = FTHParams.from_hparams(ROOT / "hparams/FT/testbed-gpt2.yaml")
    found = sweep.points(["lr=1e-3;0.1", "norm_constraint=false;0.5"], hparams, 3)
    assert len(found) == 4
    assert {"lr": 0.1, "norm_constraint": False} in found


@pytest.mark.parametrize("grid", ["lr", "=3", "lr="])
def test_a_malformed_grid_is_refused(sweep: ModuleType, grid: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        sweep.points([grid], FTHParams.from_hparams(ROOT / "hparams/FT/testbed-gpt2.yaml"), 3)


def test_an_editor_without_layers_is_refused(sweep: ModuleType) -> None:
    with pytest.raises(UsageError, match="neither 'layers' nor 'inner_params'"):
        sweep.points(["layers"], KGTHyperParams(), 3)


@pytest.mark.slow
def test_a_sweep_is_recorded_and_gone_on_with(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks/sweep.py"),
        "--editor",
        "ft",
        "--size",
        "3",
        "--out",
        str(tmp_path),
    ]

    def points(*grid: str) -> list[dict[str, object]]:
        subprocess.run([*command, "--grid", "num_steps=1", *grid], check=True, capture_output=True, timeout=300)
        report = json.loads((tmp_path / "ft-testbed-gpt2.json").read_text(encoding="utf-8"))
        assert report["records"] == 3
        return list(report["points"])

    (first,) = points()
    both = points("--grid", "lr=1e-3;1e-2")
    assert both[0] == first
    assert [point["change"] for point in both[1:]] == [{"num_steps": 1, "lr": 0.001}, {"num_steps": 1, "lr": 0.01}]
    assert not any(point["shipped"] for point in both)
    broken = points("--grid", "rewrite_module_tmp=nowhere.{}")[-1]
    assert "nowhere" in str(broken["failure"])
    assert broken["efficacy_score"] is None
