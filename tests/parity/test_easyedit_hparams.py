"""EasyEdit's YAML files load as they are; without a clone of it, these tests are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kgt_editor.config import HParams, read_yaml
from kgt_editor.editors.base import get_editor_class
from kgt_editor.errors import UsageError

FILES = [
    f"{editor}/{model}.yaml"
    for editor in ("ROME", "MEND", "KN", "FT")
    for model in ("gpt2-xl", "llama-7b", "llama3-8b")
]
FILES += [f"MEMIT/{model}.yaml" for model in ("gpt2-xl", "llama-7b")]
FILES += [f"AlphaEdit/{model}.yaml" for model in ("gpt2-xl", "llama3-8b")]
FILES += ["UltraEdit/llama3-8b-instruct.yaml"]
every_file = pytest.mark.parametrize("name", FILES)


def file_of(home: Path, name: str) -> tuple[Path, type[HParams]]:
    path = home / "hparams" / name
    if not path.is_file():
        pytest.skip(f"this clone has no hparams/{name}")
    return path, get_editor_class(name.split("/")[0].lower()).hparams_class


def number(value: Any) -> Any:
    """What is compared: a number written without a dot ("1e-6") is a text in YAML 1.1, false may stand for none."""
    try:
        return None if value is False else float(value)
    except (TypeError, ValueError):
        return list(value) if isinstance(value, tuple | list) else value


@every_file
def test_it_loads_unchanged(name: str, easyedit_home: Path) -> None:
    path, cls = file_of(easyedit_home, name)
    hparams = cls.from_hparams(path)
    read = {key: value for key, value in read_yaml(path).items() if key in cls.model_fields}
    assert len(read) >= 7
    for key, value in read.items():
        ours = getattr(hparams, key)
        if key == "context_template_length_params":
            ours = [list(pair) for pair in ours]
        if key == "alg_name":
            value = value.upper()
        assert number(ours) == number(value), key


@every_file
def test_every_key_is_a_field_or_named_as_ignored(name: str, easyedit_home: Path) -> None:
    path, cls = file_of(easyedit_home, name)
    assert set(read_yaml(path)) <= set(cls.model_fields) | cls.IGNORED_KEYS


@every_file
def test_an_unknown_key_in_it_is_refused_by_name(name: str, easyedit_home: Path, tmp_path: Path) -> None:
    path, cls = file_of(easyedit_home, name)
    changed = tmp_path / "changed.yaml"
    changed.write_text(path.read_text(encoding="utf-8") + "\nlearning_rat: 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"changed\.yaml: unknown key 'learning_rat'"):
        cls.from_hparams(changed)
