"""The registry, where hyperparameters are found, and undoing."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from kgt_editor import registry
from kgt_editor.editors import base
from kgt_editor.editors.key_value.rome import ROMEEditor
from kgt_editor.editors.names import EDITORS
from kgt_editor.editors.none import NoneEditor
from kgt_editor.errors import KgtError, UsageError

HPARAMS = Path(__file__).parents[2] / "hparams"


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EDITORS, "_registered", {})


def test_every_shipped_yaml_loads_through_its_editor() -> None:
    seen = set()
    for path in sorted(HPARAMS.glob("*/*.yaml")):
        cls = base.get_editor_class(path.parent.name.lower())
        hparams = cls.hparams_class.from_hparams(path)
        assert hparams.alg_name == path.parent.name, path
        assert hparams.model_name, path
        cls(hparams)
        seen.add((path.parent.name, path.stem))
    models = ("testbed-gpt2", "testbed-llama", "testbed-large", "gpt2-xl", "llama-7b", "llama3-8b")
    assert {(editor, model) for editor in ("KGT", "ROME", "MEND", "KE", "FT") for model in models} <= seen


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("testbed-gpt2", "testbed-gpt2"),
        ("gpt2-xl", "gpt2-xl"),
        ("openai-community/gpt2-xl", "gpt2-xl"),
        ("/models/gpt2-xl/", "gpt2-xl"),
        ("meta-llama/Llama-2-7b-hf", "llama-7b"),
        ("./hugging_cache/llama-2-7b-chat", "llama-7b"),
        ("meta-llama/Meta-Llama-3-8B", "llama3-8b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3-8b"),
        ("/files/gpt2-xl.Q4_K_M.gguf", "gpt2-xl"),
        ("gpt2-xl-f16.gguf", "gpt2-xl"),
    ],
)
def test_models_find_their_file(model: str, file: str) -> None:
    assert base.resolve_hparams("rome", model, HPARAMS) == HPARAMS / "ROME" / f"{file}.yaml"


@pytest.mark.parametrize(
    "model",
    ["smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "site-packages/SmolLM2-135M-Instruct.Q4_1.gguf"],
)
def test_one_file_serves_a_model_whichever_way_it_is_named(model: str, tmp_path: Path) -> None:
    wanted = tmp_path / "KGT" / "smollm2-135m.yaml"
    wanted.parent.mkdir()
    wanted.touch()
    assert base.resolve_hparams("kgt", model, tmp_path) == wanted


def test_a_models_own_file_comes_before_its_familys(tmp_path: Path) -> None:
    (tmp_path / "ROME").mkdir()
    for stem in ("llama-7b", "Llama-2-7b-hf"):
        (tmp_path / "ROME" / f"{stem}.yaml").touch()
    assert base.resolve_hparams("rome", "meta-llama/Llama-2-7b-hf", tmp_path).stem == "Llama-2-7b-hf"


def test_a_preset_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "KGT").mkdir()
    wanted = tmp_path / "KGT" / "gpt2-xl.paper.yaml"
    wanted.touch()
    assert base.resolve_hparams("kgt:paper", "gpt2-xl", tmp_path) == wanted
    with pytest.raises(UsageError, match=r"no .*gpt2-xl\.yaml"):
        base.resolve_hparams("kgt", "gpt2-xl", tmp_path)


def test_a_preset_without_file_and_defaults_is_told_which_and_how_to_make_it() -> None:
    with pytest.raises(
        UsageError, match=r"no .*ROME/gpt2-xl\.mine\.yaml; known for .*rome:no-cov.*or write that file"
    ) as caught:
        base.create_editor("rome:mine", "gpt2-xl", HPARAMS)
    assert "\n" not in str(caught.value)


def test_an_editor_of_ones_own_without_a_file_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(NoneEditor, "needs_hparams_file", True)
    base.register("mine", "kgt_editor.editors.none:NoneEditor")
    with pytest.raises(UsageError, match=r"editor 'mine' has no hyperparameters .*there is no YAML in .*MINE"):
        base.create_editor("mine", "gpt2-xl", tmp_path)


def test_a_folder_without_yamls_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no YAML in .*ROME"):
        base.resolve_hparams("rome", "gpt2-xl", tmp_path)


def test_an_editor_is_made_with_its_overrides() -> None:
    editor = base.create_editor("rome", "gpt2-xl", HPARAMS, {"v_lr": "0.25", "layers": "[5]"})
    assert isinstance(editor, ROMEEditor)
    assert editor.hparams.v_lr == 0.25
    assert editor.hparams.layers == (5,)
    with pytest.raises(UsageError, match="v_lr"):
        base.create_editor("rome", "gpt2-xl", HPARAMS, {"v_lrr": "0.25"})


def test_the_row_without_edit_needs_no_file(tmp_path: Path) -> None:
    assert isinstance(base.create_editor("none", "any/model", tmp_path), NoneEditor)
    with pytest.raises(UsageError, match="no presets"):
        base.create_editor("none:paper", "any/model", tmp_path)


def test_unknown_editors_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown editor 'roma'; did you mean 'rome'.*known: none, kgt, rome, memit"):
        base.get_editor_class("roma")


def test_registered_editors_are_found() -> None:
    base.register("mine", "kgt_editor.editors.none:NoneEditor")
    assert base.get_editor_class("mine") is NoneEditor
    assert "mine" in base.names()
    assert base.available()["mine"] is NoneEditor
    base.register("mine", "kgt_editor.editors.none:NoneEditor")


@pytest.mark.parametrize(
    ("name", "target", "match"),
    [
        ("rome", "somewhere:Else", "registered already"),
        ("mine", "no_colon", "module:attribute"),
        ("Mine", "a:B", "lower case"),
        ("my:own", "a:B", "preset"),
    ],
)
def test_bad_registrations_are_refused(name: str, target: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        base.register(name, target)


def test_editors_of_other_packages_come_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "kgt_editor.editors.none:NoneEditor", EDITORS.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == EDITORS.group else [])
    assert base.get_editor_class("theirs") is NoneEditor
    assert base.names()[-1] == "theirs"


@pytest.mark.parametrize("target", ["kgt_editor.nowhere:Editor", "kgt_editor.editors.none:Nothing"])
def test_an_editor_that_cannot_be_imported_is_named(target: str) -> None:
    base.register("mine", target)
    with pytest.raises(KgtError, match=f"'mine' .{target}."):
        base.get_editor_class("mine")


def test_something_else_is_no_editor() -> None:
    base.register("mine", "pathlib:Path")
    with pytest.raises(UsageError, match="no subclass"):
        base.get_editor_class("mine")


def test_restoring_into_another_model_is_refused(tiny_gpt2: tuple[Any, Any]) -> None:
    model, _ = tiny_gpt2
    with pytest.raises(KgtError, match="no such parameter"):
        base.restore_model(model, {"model.layers.0.weight": torch.zeros(1)})
