"""Both directions against EasyEdit itself, where ``EASYEDIT_HOME`` or the path has it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from easyedit_helpers import HPARAMS, forget, world_edits

from kgt_editor.data.world import load_world
from kgt_editor.editors.easyedit import loading as easyedit_import
from kgt_editor.editors.easyedit import statistics
from kgt_editor.editors.key_value.keys import key_moments
from kgt_editor.errors import UsageError
from kgt_editor.lm.loading import load_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``kgt_editor.easyedit`` registered in the real one; EasyEdit's log files go to a temporary folder."""
    forget()
    if easyedit_import.find() is None:
        pytest.skip("no EasyEdit: name a clone in EASYEDIT_HOME")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(tmp_path_factory.mktemp("easyedit"))
        try:
            module = importlib.import_module("kgt_editor.easyedit")
        except UsageError as error:
            pytest.skip(str(error))
        yield module
    forget()


@pytest.mark.parametrize("model", ["testbed-gpt2", "testbed-llama"])
def test_base_editor_edits(bridge: Any, model: str) -> None:
    from easyeditor import BaseEditor

    editor = BaseEditor.from_hparams(bridge.KGTHyperParams.from_hparams(HPARAMS / "KGT" / model))
    for sequential in (False, True):
        metrics, edited, _ = editor.edit(**world_edits(4), sequential_edit=sequential, verbose=False)
        for key in ("rewrite_acc", "rephrase_acc"):
            assert [float(metric["pre"][key][0]) for metric in metrics] == [0.0] * 4
            assert sum(float(metric["post"][key][0]) for metric in metrics) >= 3.9
        assert all(set(metric["post"]["locality"]["neighborhood_acc"]) == {1.0} for metric in metrics)
        assert len(edited.graph.added) == (4 if sequential else 0)
    asked = world_edits(1, skip=4)
    (metric,), edited, _ = editor.edit(**asked, eval_metric="ppl", sequential_edit=True, verbose=False)
    assert metric["post"]["rewrite_ppl"] == pytest.approx(_perplexity(edited, editor.tok, asked), rel=1e-3)
    assert metric["post"]["rewrite_ppl"] < 0.01 * metric["pre"]["rewrite_ppl"]


def test_it_takes_a_batch_and_judges_what_is_generated(bridge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk
    from easyeditor import BaseEditor

    monkeypatch.setattr(nltk, "word_tokenize", str.split)  # which needs data that NLTK downloads
    editor = BaseEditor.from_hparams(bridge.KGTHyperParams.from_hparams(HPARAMS / "KGT" / "testbed-llama"))
    metrics, edited, _ = editor.edit(**world_edits(1), test_generation=True, sequential_edit=True, verbose=False)
    assert all(metrics[0][when]["fluency"]["ngram_entropy"] > 0 for when in ("pre", "post"))
    editor.hparams.batch_size = 2
    asked = {key: value for key, value in world_edits(3, skip=1).items() if key != "locality_inputs"}
    metrics, edited, _ = editor.batch_edit(**asked, sequential_edit=True, verbose=False)
    assert [float(metric["post"]["rewrite_acc"][0]) for metric in metrics] == [1.0] * 3
    assert len(edited.graph.added) == 4
    with pytest.raises(UsageError, match="subject"):  # which it does not pass on
        editor.normal_edit(["A made-up town lies in"], ["Velmora"])


def _perplexity(model: Any, tok: Any, asked: dict[str, Any]) -> float:
    """Of the target's tokens behind the prompt, read in one forward pass as EasyEdit reads them."""
    prompt, target = asked["prompts"][0], asked["target_new"][0]
    batch = tok(f"{prompt} {target}", return_tensors="pt")
    own = len(tok(f" {target}").input_ids)
    log_probs = model(**batch).logits[0, -own - 1 : -1].float().log_softmax(-1)
    return float((-log_probs.gather(1, batch.input_ids[0, -own:, None]).mean()).exp())


def test_it_reads_the_moments_of_the_training_records(bridge: Any, tmp_path: Path) -> None:
    from easyeditor.models.memit.memit_main import get_cov

    model, tok = load_model("testbed-llama", dtype="float32")
    layer, training = "model.layers.1.mlp.down_proj", load_world().sample(60, 0)
    values = {"layers": [1], "rewrite_module_tmp": "model.layers.{}.mlp.down_proj", "mom2_n_samples": 500}
    statistics.write_moments(model, tok, {**values, "mom2_dtype": "float32"}, training, tmp_path)
    ours = key_moments(model, tok, [layer], "training", 500, torch.float32, training=training)[layer]
    theirs = get_cov(
        model, tok, layer, "training", 500, "float32", hparams=SimpleNamespace(stats_dir=str(tmp_path), device="cpu")
    )
    assert torch.equal(theirs, ours.float())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["testbed-gpt2", "testbed-llama"])
def test_its_methods_are_rows(bridge: Any, tmp_path: Path, model: str) -> None:
    asked = ",".join(f"easyedit:{name}" for name in ("WISE", "GRACE", "LoRA", "ROME", "FT", "KN", "ULTRAEDIT"))
    command = [sys.executable, str(ROOT / "benchmarks" / "compare.py"), "--editors", asked, "--model", model]
    done = subprocess.run(
        [*command, "--size", "4", "--out", str(tmp_path)], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("*/summary.json")
    rows = {row["editor"]: row for row in json.loads(summary.read_text())["rows"]}
    assert list(rows) == ["none", *asked.split(",")]
    assert all(row["failed_edits"] == 0 and row["peak_memory_bytes"] > 0 for row in rows.values())
    assert rows["easyedit:GRACE"]["metrics"]["efficacy_accuracy"]["mean"] == 1
