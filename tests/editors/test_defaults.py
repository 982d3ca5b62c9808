"""Hyperparameters derived from an architecture: those of the published models are what their YAMLs say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from kgt_editor.editors import base, defaults
from kgt_editor.errors import UnsupportedModelError
from kgt_editor.lm.layers import FAMILIES

HPARAMS = Path(__file__).parents[2] / "hparams"
EDITORS = ("kgt", "kgt:user", "kgt:paper", "rome", "mend", "ke", "ft", "kn", "oppu", "icl", "icl:bm25", "icl:mello")
WITHOUT_YAML = ("memit", "alphaedit", "ultraedit", "locft")
# What says nothing of the method: names, rows that fit into a pass, and a text that is not read.
ASIDE = {"rome": {"mom2_dataset"}, "kn": {"batch_size"}}


@pytest.mark.parametrize("editor", EDITORS)
@pytest.mark.parametrize("shape", ["gpt2-small", "gpt2-xl", "llama-2-7b", "llama-3-8b"])
def test_a_published_model_gets_what_its_yaml_says(editor: str, shape: str, tmp_path: Path) -> None:
    written = base.create_editor(editor, f"shape:{shape}", HPARAMS)
    derived = base.create_editor(editor, f"shape:{shape}", tmp_path)
    assert written.origin is not None
    assert written.origin.path is not None
    assert derived.origin is not None
    assert derived.origin.path is None
    aside = {"model_name"} | ASIDE.get(editor, set())
    assert derived.hparams.model_dump(exclude=aside) == written.hparams.model_dump(exclude=aside)


@pytest.mark.parametrize(
    ("family", "blocks", "rome", "ft"),
    [("gpt2", 12, 4, 0), ("gpt2", 24, 8, 0), ("gpt2", 36, 12, 0), ("llama", 30, 4, 19), ("qwen2", 24, 3, 15)],
)
def test_blocks_are_edited_at_the_published_depth(family: str, blocks: int, rome: int, ft: int) -> None:
    model = defaults.Architecture(family, blocks)
    assert defaults._rome(model)["layers"] == [rome]
    assert defaults._rome(model)["v_loss_layer"] == blocks - 1
    assert defaults._ft(model)["layers"] == [ft]


@pytest.mark.parametrize("family", FAMILIES)
def test_editors_accept_what_is_derived_for_every_family(family: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
    config = AutoConfig.for_model(family, **sizes)
    config.save_pretrained(tmp_path)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config).eval()
    for editor in (*EDITORS, *WITHOUT_YAML):
        made = base.create_editor(editor, str(tmp_path), tmp_path)
        assert made.supports(model) == (True, ""), editor
        assert made.origin is not None
        assert made.origin.derived == f"{family}, 2 blocks"


def test_a_long_training_is_told(tmp_path: Path) -> None:
    found = defaults.derive("mend", "shape:gpt2-xl")
    assert "100,000 iterations" in found.note
    assert "--set mend.max_iters=N" in found.note
    assert defaults.derive("rome", "shape:gpt2-xl").note == ""


@pytest.mark.parametrize(("editor", "match"), [("rome", "known: gpt2, llama"), ("oppu", "which layers of 'rwkv5'")])
def test_an_unknown_architecture_is_refused_by_name(
    editor: str, match: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = AutoConfig.for_model("gpt2")
    config.model_type = "rwkv5"
    monkeypatch.setattr(defaults, "model_config", lambda name: config)
    with pytest.raises(UnsupportedModelError, match=f"editor '{editor}' cannot edit 'some/model': .*{match}") as caught:
        base.create_editor(editor, "some/model", tmp_path)
    assert "\n" not in str(caught.value)
    assert base.create_editor("kgt", "some/model", tmp_path).hparams.alg_name == "KGT"
