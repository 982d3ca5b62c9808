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


def test_the_shipped_yamls_are_easyedits_too(bridge: Any) -> None:
    # Loading it would convert the weights, and EasyEdit does not know the model by its folder's name either.
    real = set(HPARAMS.glob("KGT/smollm2-135m*.yaml"))
    named_for_no_architecture = set(HPARAMS.glob("KGT/testbed-large*.yaml"))
    for path in named_for_no_architecture:
        with pytest.raises(UsageError, match=r"EasyEdit does not know the model .*testbed-large"):
            bridge.KGTHyperParams.from_hparams(path)
    for path in set(HPARAMS.glob("KGT/*.yaml")) - named_for_no_architecture - real:
        hparams = bridge.KGTHyperParams.from_hparams(path)
        hparams.device = "cpu"  # EasyEdit's scripts set fields
        assert hparams.to_dict()["alg_name"] == "KGT"


# Rows of our tables. The inventory is what a process of its own reports of the real one.

KNOWN = {"ROME": ["layers", "stats_dir"], "WISE": ["edit_lr"], "MEND": [], "MEMIT": [], "IKE": [], "SERAC": []}


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


@pytest.mark.parametrize("algorithm", ["ROME", "FT", "KN", "WISE", "GRACE", "LoRA"])
@pytest.mark.parametrize("model", ["testbed-gpt2", "testbed-llama"])
def test_the_testbeds_have_yamls_of_their_own(rows: None, algorithm: str, model: str) -> None:
    path = easyedit.find_yaml(algorithm, model, HPARAMS)
    assert path == HPARAMS / "easyedit" / algorithm / f"{model}.yaml"
    assert easyedit.read_yaml(path)["alg_name"] == algorithm
