"""A personal model saved beside its language model, and loaded again."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import saved
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM

LM = tuple[Any, Any]
BORN = Triple("Ada Brun", "was born in", "Tarsil")
OTHER = Triple("Ada Brun", "was born in", "Velmora")
QUERY = "Ada Brun was born in the town of"


@pytest.fixture
def model(tiny_gpt2: LM) -> KGEnhancedLM:
    hparams = KGTHyperParams.build({**AS_PRINTED, "retrieval_min": 0.0, "graph": "none", "K": 2}, "test")
    graph = PersonalGraph(MemoryGraph(), user="ada")
    graph.add(OTHER, QUERY, "Velmora")
    graph.commit(QUERY, "Tarsil", [BORN], [OTHER])
    return KGEnhancedLM(*tiny_gpt2, graph, hparams)


def test_it_answers_as_before(model: KGEnhancedLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "ada")
    again = KGEnhancedLM.from_pretrained(tmp_path / "ada", model.lm, model.tok)
    assert again.hparams == model.hparams
    assert again.graph.user == "ada"
    assert again.graph.history() == model.graph.history()
    assert again.score_targets([QUERY], ["Tarsil"]) == model.score_targets([QUERY], ["Tarsil"])
    again.graph.undo()
    assert again.graph.added == [OTHER]
    assert KGEnhancedLM.from_pretrained(tmp_path / "ada", model.lm, model.tok).graph.added == [BORN]


def test_it_loads_the_language_model_by_its_name(
    model: KGEnhancedLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lm"
    model.lm.save_pretrained(folder)
    model.tok.save_pretrained(folder)
    monkeypatch.setattr(model.lm.config, "_name_or_path", str(folder))
    monkeypatch.setattr(model.lm, "name_or_path", str(folder))
    model.save_pretrained(tmp_path / "ada")
    again = KGEnhancedLM.from_pretrained(tmp_path / "ada")
    (found,), (expected,) = (one.score_targets([QUERY], ["Tarsil"]) for one in (again, model))
    assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-4)


def test_only_its_owner_can_read_it(model: KGEnhancedLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "ada")
    assert stat.S_IMODE((tmp_path / "ada").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "ada" / saved.GRAPH).stat().st_mode) == 0o600


def test_what_cannot_be_loaded_is_said(model: KGEnhancedLM, tmp_path: Path) -> None:
    lm = model.lm, model.tok
    with pytest.raises(UsageError, match="name a folder that save_pretrained has written"):
        KGEnhancedLM.from_pretrained(tmp_path, *lm)
    with pytest.raises(UsageError, match="both lm and tok, or neither"):
        KGEnhancedLM.from_pretrained(tmp_path, model.lm)
    model.save_pretrained(tmp_path)
    config = tmp_path / saved.CONFIG
    right = json.loads(config.read_text())
    for wrong in ("", "[]", '{"user": 1}', json.dumps({**right, "hparams": []}), "[" * 100_000):
        config.write_text(wrong)
        with pytest.raises(UsageError, match="is not what save_pretrained writes"):
            KGEnhancedLM.from_pretrained(tmp_path, *lm)
    config.write_text(json.dumps({**right, "hparams": {**right["hparams"], "K": 0}}))
    with pytest.raises(UsageError, match="K"):
        KGEnhancedLM.from_pretrained(tmp_path, *lm)
    config.write_text(json.dumps({**right, "user": "milo"}))
    with pytest.raises(UsageError, match=r"is of user 'milo', graph.db of 'ada'"):
        KGEnhancedLM.from_pretrained(tmp_path, *lm)
    config.write_text(json.dumps(right))
    (tmp_path / saved.GRAPH).unlink()
    with pytest.raises(UsageError, match="no such file; save the model again"):
        KGEnhancedLM.from_pretrained(tmp_path, *lm)


def test_a_folder_that_cannot_be_written_is_said(model: KGEnhancedLM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KgtError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file" / "ada")
