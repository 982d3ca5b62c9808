"""Our MEMIT, AlphaEdit and UltraEdit beside EasyEdit's on the same random models and requests."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from easyedit_clone import imported
from test_easyedit_methods import MODULES, cosine

from kgt_editor.editors.key_value.alphaedit import AlphaEditEditor, AlphaEditHParams
from kgt_editor.editors.key_value.keys import key_moments
from kgt_editor.editors.key_value.memit import MEMITEditor, MEMITHParams
from kgt_editor.editors.ultraedit import UltraEditEditor, UltraEditHParams
from kgt_editor.lm.layers import linear_layer

LM = tuple[Any, Any]
PREFIXES = ("Yesterday it rained.", "They met in spring.")
TEMPLATES = [["{}"], [f"{prefix} {{}}" for prefix in PREFIXES]]
REQUESTS = [
    {"prompt": "The mother tongue of Ada Brun is", "subject": "Ada Brun", "target_new": "Norrish", "case_id": 0},
    {"prompt": "Milo Castrel was born in", "subject": "Milo Castrel", "target_new": "Old Velmoran", "case_id": 1},
]
LAYERS = [0, 1]


@pytest.fixture(scope="module")
def theirs(easyedit_home: Path) -> Iterator[SimpleNamespace]:
    """Their modules ``memit`` and ``alpha``."""
    names = ("models.memit.memit_main", "models.alphaedit.AlphaEdit_main")
    with imported(easyedit_home, *names) as modules:
        yield SimpleNamespace(memit=modules[0], alpha=modules[1])


@pytest.fixture(scope="module")
def their_ultra(easyedit_home: Path) -> Iterator[Any]:
    """Their class ``ULTRAEDIT``."""
    pytest.importorskip("higher", reason="EasyEdit's trainer needs higher: pip install -e '.[easyedit]'")
    with imported(easyedit_home, "models.ultraedit.ULTRAEDIT") as modules:
        yield modules[0].ULTRAEDIT


@pytest.fixture
def text(tmp_path: Path, tiny_records: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "text.txt"
    said = [f"{prompt} {one.target_true}" for one in tiny_records for prompt in (one.query, *one.paraphrase_prompts)]
    path.write_text("\n".join(said), "utf-8")
    return str(path)


def values_of(model: Any, text: str, **more: Any) -> dict[str, Any]:
    return {
        # Theirs knows an architecture by words in this name.
        "model_name": {"gpt2": "tiny-gpt2-xl", "llama": "tiny-llama"}[model.config.model_type],
        "device": "cpu",
        **MODULES[model.config.model_type],
        "layers": LAYERS,
        "fact_token": "subject_last",
        "v_num_grad_steps": 20,
        "v_lr": 0.5,
        "v_loss_layer": 2,
        "v_weight_decay": 0.05,
        "clamp_norm_factor": 0.75,
        "kl_factor": 0.0625,
        "mom2_adjustment": True,
        "mom2_dataset": text,
        "mom2_n_samples": 1000,
        "mom2_dtype": "float32",
        **more,
    }


def of_ours(editor: Any, model: Any, tok: Any, requests: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """What an edit adds to each layer, (out, in)."""
    before = {name: linear_layer(model, name).matrix.detach().clone() for name in editor.layers(model)}
    editor.apply(model, tok, requests)
    return {name: linear_layer(model, name).matrix.detach() - matrix for name, matrix in before.items()}


def alike(ours: torch.Tensor, their: torch.Tensor) -> None:
    their = their.float() if their.shape == ours.shape else their.float().T
    assert their.norm() > 1e-3
    assert cosine(ours, their) >= 0.99
    assert (ours - their).norm() / their.norm() <= 0.05


def test_memit_spreads_the_same_update(tiny_lm: LM, theirs: SimpleNamespace, text: str, monkeypatch: Any) -> None:
    model, tok = tiny_lm
    common = values_of(model, text, mom2_update_weight=2.0)
    names = [common["rewrite_module_tmp"].format(layer) for layer in LAYERS]
    moments = key_moments(model, tok, names, text, 1000, torch.float32)
    monkeypatch.setattr(theirs.memit, "CONTEXT_TEMPLATES_CACHE", TEMPLATES)
    monkeypatch.setattr(theirs.memit, "get_cov", lambda model, tok, name, *_, **__: moments[name])
    deltas = theirs.memit.execute_memit(copy.deepcopy(model), tok, REQUESTS, SimpleNamespace(**common))
    hparams = {key: value for key, value in common.items() if key not in MEMITHParams.IGNORED_KEYS}
    ours = of_ours(MEMITEditor(MEMITHParams(**hparams, context_prefixes=PREFIXES)), model, tok, REQUESTS)
    for name in names:
        keys, shares = deltas[f"{name}.weight"]
        alike(ours[name], (keys @ shares.T).T)


def test_alphaedit_makes_the_same_updates_one_after_the_other(
    tiny_lm: LM, theirs: SimpleNamespace, text: str, monkeypatch: Any
) -> None:
    model, tok = tiny_lm
    common = values_of(model, text, nullspace_threshold=0.1, L2=0.5)
    hparams = {key: value for key, value in common.items() if key not in AlphaEditHParams.IGNORED_KEYS}
    editor = AlphaEditEditor(AlphaEditHParams(**hparams, context_prefixes=PREFIXES))
    editor.prepare(model, tok)
    names = editor.layers(model)
    moments = key_moments(model, tok, names, text, 1000, torch.float32)
    bases = [editor.learn(name, moments[name]) for name in names]
    monkeypatch.setattr(theirs.alpha, "CONTEXT_TEMPLATES_CACHE", TEMPLATES)
    # The projection is an input here, the same for both; both start without an edit.
    monkeypatch.setattr(theirs.alpha, "P", torch.stack([basis @ basis.T for basis in bases]), raising=False)
    monkeypatch.setattr(theirs.alpha, "cache_c", torch.zeros(2, *[len(moments[names[0]])] * 2), raising=False)
    twin = copy.deepcopy(model)
    for request in REQUESTS:
        deltas = theirs.alpha.execute_AlphaEdit(twin, tok, [request], SimpleNamespace(**common))
        ours = of_ours(editor, model, tok, [request])
        for name in names:
            alike(ours[name], deltas[f"{name}.weight"])
            with torch.no_grad():
                weight = twin.get_parameter(f"{name}.weight")
                weight += theirs.alpha.upd_matrix_match_shape(deltas[f"{name}.weight"], weight.shape)


def test_ultraedit_makes_the_same_steps(tiny_lm: LM, tiny_gpt2: LM, their_ultra: Any) -> None:
    # The tokenizer that adds no BOS: theirs encodes the target alone, and would train on it.
    model, tok = tiny_lm[0], tiny_gpt2[1]
    part = "transformer.h.{}.mlp.c_proj" if model.config.model_type == "gpt2" else "model.layers.{}.mlp.gate_proj"
    names = [part.format(block) for block in (1, 2)]
    twin = copy.deepcopy(model)
    config = SimpleNamespace(
        model_name=f"tiny-{model.config.model_type}",
        device="cpu",
        half=False,
        inner_params=list(names),
        lr=1e-3,
        token="mask",
        editor_batch_size=64,
    )
    editor = UltraEditEditor(UltraEditHParams(inner_params=tuple(names), lr=1e-3))
    alg = their_ultra(twin, config, lambda: copy.deepcopy(twin))
    for request in REQUESTS:
        before = {name: linear_layer(twin, name).matrix.detach().clone() for name in names}
        whole = tok([f"{request['prompt']} {request['target_new']}"], return_tensors="pt")
        labels = tok([f" {request['target_new']}"], return_tensors="pt").input_ids
        kept = alg.cache([{"input_ids": whole.input_ids, "attention_mask": whole.attention_mask, "labels": labels}])
        alg.edit_model(alg.predict_param_shifts(kept), False)
        ours = of_ours(editor, model, tok, [request])
        for name in names:
            alike(ours[name], linear_layer(twin, name).matrix.detach() - before[name])
