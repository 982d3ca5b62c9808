"""The settings, their files and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgt_editor.errors import UsageError
from kgt_editor.kgt.hparams import KGTHyperParams

FOLDER = Path(__file__).parents[2] / "hparams" / "KGT"
MODELS = ("testbed-gpt2", "testbed-llama", "testbed-large", "gpt2", "gpt2-xl", "llama-7b", "llama3-8b")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_loads(path: Path) -> None:
    hparams = KGTHyperParams.from_hparams(path)
    assert hparams.model_name
    as_printed = (hparams.optimizer, hparams.K, hparams.relation_source) == ("algorithm1", 5, "generate")
    assert as_printed == path.name.endswith(".paper.yaml")
    assert (hparams.relation_source == "user") == path.name.endswith(".user.yaml")


def test_every_model_has_a_file_and_both_presets() -> None:
    # A file that was chosen by figures has them beside it; its presets are laid over it.
    calibrated = {path.name.replace(".calibration.json", ".yaml") for path in FOLDER.glob("*.calibration.json")}
    assert {path.name for path in FOLDER.glob("*.yaml")} - calibrated == {
        f"{model}{preset}.yaml" for model in MODELS for preset in ("", ".paper", ".user")
    }


@pytest.mark.parametrize("figures", sorted(FOLDER.glob("*.calibration.json")), ids=lambda path: path.name)
def test_a_calibrated_file_says_what_its_figures_say(figures: Path) -> None:
    hparams = KGTHyperParams.from_hparams(figures.with_name(figures.name.replace(".calibration.json", ".yaml")))
    measured = json.loads(figures.read_text(encoding="utf-8"))["measured"]
    rows = [row for name, found in measured.items() if name.startswith("reading") for row in found]
    best = max(rows, key=lambda row: row["value"])
    assert (hparams.reading, hparams.contrast) == (best["reading"], best["contrast"])
    curve = measured[f"bearing {hparams.reading} {hparams.contrast}"]
    chosen = hparams.guard_midpoint, hparams.guard_slope, hparams.retrieval_min
    assert chosen == (curve["midpoint"], curve["slope"], curve["least"])


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("optimizer", "sgd", "'greedy' or 'algorithm1'"),
        ("stop", "never", "'loss', 'answer' or 'both'"),
        ("relation_source", "oracle", "'generate', 'rank', 'user' or 'query'"),
        ("inference", "top2", "'top1' or 'marginal'"),
        ("K", 0, "greater than or equal to 1"),
        ("retrieval_min", 1.5, "less than 1"),
        ("probability_floor", 0, "greater than 0"),
        ("alg_name", "ROME", "'KGT'"),
        ("graph", "", "at least 1 character"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(field: str, value: object, told: str) -> None:
    with pytest.raises(UsageError, match=f"'{field}'") as caught:
        KGTHyperParams.build({field: value}, "file.yaml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_templates_can_be_replaced_one_by_one() -> None:
    hparams = KGTHyperParams(templates={"retrieve": "{q} needs {e_q}"})
    assert hparams.prompts().retrieve == "{q} needs {e_q}"
    assert hparams.prompts().reasoning == KGTHyperParams().prompts().reasoning


@pytest.mark.parametrize(
    ("templates", "told"),
    [({"retrieval": "{q}"}, "unknown template 'retrieval'"), ({"retrieve": "{q}"}, "must hold exactly")],
)
def test_wrong_templates_are_refused(templates: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        KGTHyperParams.build({"templates": templates}, "file.yaml")
