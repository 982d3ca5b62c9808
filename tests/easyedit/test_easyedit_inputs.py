"""What a user can get wrong around EasyEdit: one line each, that names the thing and the remedy."""

from __future__ import annotations

import importlib
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from easyedit_helpers import FAKE, HPARAMS

from kgt_editor.editors import base
from kgt_editor.editors.easyedit import editor as easyedit
from kgt_editor.editors.easyedit import loading
from kgt_editor.errors import UsageError


def refused(clean: pytest.MonkeyPatch, home: Path | None) -> str:
    """The error of ``import kgt_editor.easyedit`` with this clone."""
    if home is not None:
        clean.setenv("EASYEDIT_HOME", str(home))
    clean.setattr(warnings, "warn", lambda *args, **kwargs: None)
    with pytest.raises(UsageError) as caught:
        importlib.import_module("kgt_editor.easyedit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the stand-in, to be broken."""
    return Path(shutil.copytree(FAKE, tmp_path / "EasyEdit"))


def test_no_easyedit(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "EASYEDIT_HOME is not set" in refused(clean, None)
    text = refused(clean, tmp_path)
    assert f"EASYEDIT_HOME is {tmp_path}, which holds no folder easyeditor" in text
    assert "git clone https://github.com/zjunlp/EasyEdit" in text


def test_a_broken_easyedit(clean: pytest.MonkeyPatch, clone: Path) -> None:
    (clone / "easyeditor" / "util" / "alg_dict.py").write_text("ALG_DICT = {\n")
    assert "is broken: SyntaxError" in refused(clean, clone)
    (clone / "easyeditor" / "util" / "alg_dict.py").write_text("ALG_DICT = {}\n")
    clean.setenv("EASYEDIT_HOME", str(clone))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("kgt_editor.easyedit")  # repaired, it is taken


def test_packages_that_are_missing(clean: pytest.MonkeyPatch, clone: Path) -> None:
    with (clone / "easyeditor" / "util" / "alg_dict.py").open("a") as file:
        file.write("import no_such_package.inside\n")
    text = refused(clean, clone)
    assert "pip install" in text
    assert text.endswith("no_such_package")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("util/alg_dict.py", "easyeditor.util.alg_dict.ALG_DICT"),
        ("editors/utils.py", "easyeditor.editors.utils.CALLABLE_RESTORE_ALGS"),
    ],
)
def test_a_registry_that_moved(clean: pytest.MonkeyPatch, clone: Path, file: str, name: str) -> None:
    (clone / "easyeditor" / file).write_text("SOMETHING_ELSE = None\n")
    (clone / "easyeditor" / "editors" / "editor.py").write_text("class BaseEditor: ...\n")
    text = refused(clean, clone)
    assert f"has no {name} any more; known to work: its commit 14cea824" in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"alg_name": "ROME"}, "alg_name is 'ROME', so this is not a YAML of KGT"),
        ({"model_name": "EleutherAI/pythia-70m"}, "EasyEdit does not know the model 'EleutherAI/pythia-70m'"),
        ({"model_name": ""}, "key 'model_name' is missing"),
        ({"inference": "marginal", "contrast": "0", "guard": "retrieval"}, "EasyEdit's evaluation needs top1"),
        ({"optimiser": "greedy"}, "unknown key 'optimiser'"),
    ],
)
def test_a_yaml_that_will_not_do(bridge: Any, tmp_path: Path, change: dict[str, str], told: str) -> None:
    values = {"alg_name": "KGT", "model_name": "testbed-gpt2", **change}
    path = tmp_path / "mine.yaml"
    quoted = {key: value if value.isdigit() else f"'{value}'" for key, value in values.items()}
    path.write_text("".join(f"{key}: {value}\n" for key, value in quoted.items()))
    with pytest.raises(UsageError) as caught:
        bridge.KGTHyperParams.from_hparams(tmp_path / "mine")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shipped_yamls_are_easyedits_too(bridge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path))
    real = set(HPARAMS.glob("KGT/smollm2-135m*.yaml"))  # loading them would convert the weights
    for path in set(HPARAMS.glob("KGT/*.yaml")) - real:
        hparams = bridge.KGTHyperParams.from_hparams(path)
        hparams.device = "cpu"  # EasyEdit's scripts set fields
        assert hparams.to_dict()["alg_name"] == "KGT"


def folder_of(tmp_path: Path, name: str, content: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    return folder


def test_a_model_whose_folder_says_nothing_gets_a_name_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    folder = folder_of(tmp_path, "mine", '{"model_type": "llama"}')
    link = Path(loading.marked_name(str(folder)))
    assert link.name.startswith("llama-mine-")
    assert link.resolve() == folder.resolve()
    assert loading.marked_name(str(folder)) == str(link)
    assert loading.marked_name(str(link)) == str(link)
    twin = folder_of(tmp_path, "other/mine", '{"model_type": "gpt2"}')
    assert Path(loading.marked_name(str(twin))).resolve() == twin.resolve()
    folder.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="EasyEdit does not know the model"):
        loading.marked_name(str(folder))


@pytest.mark.parametrize("content", ['{"model_type": "opt"}', "{}", "[]", "no json", '{"model_type": null}'])
def test_a_model_of_a_kind_easyedit_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="EasyEdit does not know the model"):
        loading.marked_name(str(folder_of(tmp_path, "mine", content)))


def test_a_link_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match=r"needs a link .* cannot be made"):
        loading.marked_name(str(folder_of(tmp_path, "mine", '{"model_type": "llama"}')))


# Rows of our tables. The inventory is what a process of its own reports of the real one.

KNOWN = {
    "SimIE": [],
    "ROME": ["layers", "stats_dir"],
    "WISE": ["edit_lr"],
    "MEND": [],
    "MEMIT": [],
    "IKE": [],
    "SERAC": [],
}


@pytest.fixture
def rows(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("EASYEDIT_HOME", str(FAKE))
    clean.setattr(easyedit, "inventory", lambda folder: KNOWN)


def write(folder: Path, algorithm: str, **values: Any) -> Path:
    path = folder / algorithm / "testbed-gpt2.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}: {value}\n" for key, value in {"alg_name": algorithm, **values}.items()))
    return path


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("easyedit", {}, "only with a name behind it, as in 'easyedit:WISE'"),
        ("easyedit:wise", {}, "no method 'wise'; did you mean 'easyedit:WISE'?"),
        ("easyedit:IKE", {}, "returns texts to put in front of a prompt"),
        ("easyedit:WISE", {}, "has no hyperparameters for 'testbed-gpt2'"),
        ("easyedit:WISE", {"alg_name": "ROME"}, "alg_name is 'ROME', so this is not a YAML of WISE"),
        ("easyedit:MEND", {"archive": "nowhere.pt"}, "needs a trained archive, and there is no nowhere.pt"),
        ("easyedit:MEMIT", {"mom2_adjustment": "true", "stats_dir": "nowhere"}, "statistics of wikipedia"),
        ("easyedit:MEMIT", {"mom2_adjustment": "true"}, "--set easyedit:MEMIT.mom2_dataset=training"),
    ],
)
def test_a_row_that_cannot_be_run(rows: None, tmp_path: Path, name: str, values: dict[str, Any], told: str) -> None:
    if values:
        write(tmp_path / "yamls", name.partition(":")[2], **values)
    (tmp_path / "yamls").mkdir(exist_ok=True)
    with pytest.raises(UsageError) as caught:
        base.create_editor(name, "testbed-gpt2", HPARAMS, {"hparams": str(tmp_path / "yamls")})
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_takes_easyedits_yaml_with_changes(rows: None, tmp_path: Path) -> None:
    write(tmp_path, "WISE", edit_lr=1.0, inner_params="[a]")
    changes = {"hparams": str(tmp_path), "edit_lr": "0.5", "inner_params": "[b]"}
    editor = base.create_editor("easyedit:WISE", "testbed-gpt2", HPARAMS, changes)
    assert isinstance(editor, easyedit.EasyEditEditor)
    assert editor.own_process
    assert (editor.hparams.values["edit_lr"], editor.hparams.values["inner_params"]) == (0.5, ["b"])
    assert Path(editor.hparams.values["model_name"]).name == "testbed-gpt2"
    with pytest.raises(UsageError, match=r"easyedit:WISE.edit_rate: EasyEdit's WISE has no such key; known: alg_name"):
        base.create_editor("easyedit:WISE", "testbed-gpt2", HPARAMS, {**changes, "edit_rate": "1"})


def test_a_method_over_another_brings_the_others_yaml(rows: None, tmp_path: Path) -> None:
    write(tmp_path, "SimIE", base_method="ROME")
    editor = base.create_editor("easyedit:SimIE", "testbed-gpt2", HPARAMS, {"hparams": str(tmp_path)})
    assert editor.hparams.base_values["alg_name"] == "ROME"  # type: ignore[attr-defined]
    (tmp_path / "SimIE" / "testbed-gpt2.yaml").unlink()
    write(tmp_path, "SimIE", base_method="WISE").rename(tmp_path / "SimIE" / "testbed-large.yaml")
    with pytest.raises(UsageError, match="'easyedit:WISE' has no hyperparameters for 'testbed-large'"):
        base.create_editor("easyedit:SimIE", "testbed-large", HPARAMS, {"hparams": str(tmp_path)})


@pytest.mark.parametrize("missing", ["layers", "rewrite_module_tmp", "mom2_n_samples", "mom2_dtype"])
def test_statistics_of_the_training_records_say_what_they_lack(rows: None, tmp_path: Path, missing: str) -> None:
    values = {"layers": "[0]", "rewrite_module_tmp": "h.{}", "mom2_n_samples": 9, "mom2_dtype": "float32"}
    values.pop(missing)
    write(tmp_path, "MEMIT", mom2_adjustment="true", mom2_dataset="training", **values)
    editor = base.create_editor("easyedit:MEMIT", "testbed-gpt2", HPARAMS, {"hparams": str(tmp_path)})
    with pytest.raises(UsageError, match=f"mom2_dataset: training needs .*KeyError '{missing}'"):
        editor.prepare(None, None, [])  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["ROME", "FT", "KN", "WISE", "GRACE", "LoRA", "UltraEdit"])
@pytest.mark.parametrize("model", ["testbed-gpt2", "testbed-llama"])
def test_the_testbeds_have_yamls_of_their_own(rows: None, algorithm: str, model: str) -> None:
    path = easyedit.find_yaml(algorithm, model, HPARAMS)
    assert path == HPARAMS / "easyedit" / algorithm / f"{model}.yaml"
    assert easyedit.read_yaml(path)["alg_name"].lower() == algorithm.lower()
