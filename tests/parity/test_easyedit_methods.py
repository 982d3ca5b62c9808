"""Our ROME, FT and KN beside EasyEdit's on the same random models and requests.

Where the two read a request differently, the request is one that both read alike; neither side's code is changed.
"""

from __future__ import annotations

import copy
import logging
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from easyedit_clone import imported

from kgt_editor.editors.ft import FTEditor, FTHParams
from kgt_editor.editors.key_value.hparams import ROMEHParams
from kgt_editor.editors.key_value.keys import Covariance, key_moments
from kgt_editor.editors.key_value.rome import ROMEEditor
from kgt_editor.editors.kn.editor import KNEditor, KNHParams
from kgt_editor.lm.layers import frozen
from kgt_editor.lm.tokens import continuation_ids
from kgt_editor.requests import EditRequest

LM = tuple[Any, Any]

MODULES = {
    "gpt2": {
        "rewrite_module_tmp": "transformer.h.{}.mlp.c_proj",
        "layer_module_tmp": "transformer.h.{}",
        "mlp_module_tmp": "transformer.h.{}.mlp",
        "attn_module_tmp": "transformer.h.{}.attn",
        "ln_f_module": "transformer.ln_f",
        "lm_head_module": "transformer.wte",
    },
    "llama": {
        "rewrite_module_tmp": "model.layers.{}.mlp.down_proj",
        "layer_module_tmp": "model.layers.{}",
        "mlp_module_tmp": "model.layers.{}.mlp",
        "attn_module_tmp": "model.layers.{}.self_attn",
        "ln_f_module": "model.norm",
        "lm_head_module": "lm_head",
    },
}
PROMPT = "The mother tongue of Ada Brun is"
ONE_TOKEN = {"prompt": PROMPT, "subject": "Ada Brun", "target_new": "Norrish", "ground_truth": "Tarsil"}
TWO_TOKENS = {**ONE_TOKEN, "target_new": "Old Velmoran"}
REQUESTS = pytest.mark.parametrize("request_", [ONE_TOKEN, TWO_TOKENS], ids=["one-token", "two-tokens"])


@pytest.fixture
def plain_lm(tiny_lm: LM, tiny_gpt2: LM) -> LM:
    """Both architectures with the tokenizer that adds no BOS.

    EasyEdit's FT and KN encode the target alone and train on, or attribute, the BOS that Llama's tokenizer puts
    before it; ours read the target's own tokens.
    """
    return tiny_lm[0], tiny_gpt2[1]


def values_of(model: Any, **values: Any) -> dict[str, Any]:
    modules = MODULES[model.config.model_type]
    return {"model_name": f"tiny-{model.config.model_type}", "device": "cpu", **modules, **values}


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.cosine_similarity(first.flatten(), second.flatten(), dim=0).item()


def update_of(editor: Any, model: Any, tok: Any, request: dict[str, Any], name: str) -> torch.Tensor:
    edited, _ = editor.apply(model, tok, [request], copy=True)
    return (edited.get_parameter(name) - model.get_parameter(name)).detach()


@pytest.mark.parametrize("mom2_adjustment", [False, True], ids=["identity", "covariance"])
@REQUESTS
def test_rome_makes_the_same_rank_one_update(
    request_: dict[str, Any],
    mom2_adjustment: bool,
    tiny_lm: LM,
    theirs: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_records: Any,
) -> None:
    model, tok = tiny_lm
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    sentences = [p for record in tiny_records for p in (record.query, *record.paraphrase_prompts)]
    text.write_text("\n".join(f"{first} {second}" for first in sentences for second in sentences[:9]), "utf-8")
    # Theirs are sentences that the model writes, drawn from the global generator, once for all models of a process.
    prefixes = ("Yesterday it rained.", "They met in spring.")
    monkeypatch.setattr(theirs.rome, "CONTEXT_TEMPLATES_CACHE", ["{}", *(f"{prefix} {{}}" for prefix in prefixes)])
    common = values_of(
        model,
        layers=[1],
        fact_token="subject_last",
        v_num_grad_steps=20,
        v_lr=0.5,
        v_loss_layer=2,
        v_weight_decay=0.05,
        clamp_norm_factor=4,
        kl_factor=0.0625,
        mom2_adjustment=mom2_adjustment,
        mom2_dataset=str(text),
        mom2_n_samples=1000,
        mom2_dtype="float64",
        context_template_length_params=[],
    )
    layer = common["rewrite_module_tmp"].format(1)
    if mom2_adjustment:
        # Theirs is counted on a download of Wikipedia; the statistics are an input here, the same for both.
        moments = key_moments(model, tok, [layer], str(text), 1000, torch.float64)[layer]
        factor = Covariance.of(moments, layer).factor
        inverse = torch.cholesky_inverse(factor).float()
        monkeypatch.setitem(theirs.compute_u.inv_mom2_cache, (model.config._name_or_path, layer), inverse)
    hparams = ROMEHParams(**{k: v for k, v in common.items() if k not in ROMEHParams.IGNORED_KEYS})
    ours = update_of(
        ROMEEditor(hparams.model_copy(update={"context_prefixes": prefixes})), model, tok, request_, f"{layer}.weight"
    )
    deltas = theirs.rome.execute_rome(copy.deepcopy(model), tok, request_, SimpleNamespace(**common))
    ((name, (left, right)),) = deltas.items()
    update = theirs.rome.upd_matrix_match_shape(left[:, None] @ right[None], model.get_parameter(name).shape)
    assert name == f"{layer}.weight"
    assert update.norm() > 0.1
    assert cosine(ours, update) >= 0.99
    assert (ours - update).norm() / update.norm() <= 0.05


@pytest.mark.parametrize("objective", ["prompt_last", "target_new"])
@pytest.mark.parametrize("constraint", [5e-4, False], ids=["constrained", "free"])
@REQUESTS
def test_ft_moves_the_weights_alike(
    request_: dict[str, Any], objective: str, constraint: float | bool, plain_lm: LM, theirs: SimpleNamespace
) -> None:
    model, tok = plain_lm
    common = values_of(
        model,
        layers=[1],
        num_steps=25,
        batch_size=1,
        lr=5e-4,
        weight_decay=0,
        kl_factor=0,
        norm_constraint=constraint,
        objective_optimization=objective,
    )
    # With the name of the layer alone theirs tunes the bias too, where there is one.
    common["rewrite_module_tmp"] += ".weight"
    name = common["rewrite_module_tmp"].format(1)
    hparams = FTHParams(**{k: v for k, v in common.items() if k not in FTHParams.IGNORED_KEYS})
    ours = update_of(FTEditor(hparams), model, tok, request_, name)
    deltas = theirs.ft.execute_ft(copy.deepcopy(model), tok, [request_], SimpleNamespace(**common))
    assert list(deltas) == [name]
    assert deltas[name].norm() > 1e-3
    assert cosine(ours, deltas[name]) >= 0.99


@pytest.mark.parametrize("prompts", [1, 3], ids=["one-prompt", "refined"])
def test_kn_chooses_the_same_neurons(prompts: int, plain_lm: LM, their_kn: SimpleNamespace) -> None:
    model, tok = plain_lm
    prefixes = ("It rained.", "They met in spring.")
    texts = [PROMPT, *(f"{prefix} {PROMPT}" for prefix in prefixes)][:prompts]
    # Of a target of several tokens theirs attributes each alone, ours their product: one token here.
    truth = ONE_TOKEN["ground_truth"]
    assert len(continuation_ids(tok, PROMPT, truth)[1]) == 1
    # Theirs sums over 0, 1/(m-1), ..., 1 and ours, as the paper, over 1/m, ..., 1: with many steps the same integral.
    # Theirs scales what the MLP's first layer (in Llama, its gate) gives before the non-linearity.
    hparams = KNHParams(
        steps=100,
        batch_size=100,
        adaptive_threshold=0.1,
        refine=prompts > 1,
        p=0.5,
        context_prefixes=prefixes,
        attribute_to="preactivation",
    )
    with frozen(model):
        ours = set(KNEditor(hparams).knowledge_neurons(model, tok, EditRequest.parse(ONE_TOKEN)))
    kind = their_kn.kn.model_type(f"tiny-{model.config.model_type}")
    finder = their_kn.kn.KnowledgeNeurons(copy.deepcopy(model), tok, model_type=kind, device="cpu")
    found = finder.get_refined_neurons(
        texts,
        truth,
        p=hparams.p,
        batch_size=hparams.batch_size,
        steps=hparams.steps,
        coarse_adaptive_threshold=hparams.adaptive_threshold,
        refine=hparams.refine,
    )
    their_neurons = {tuple(neuron) for neuron in found}
    assert len(their_neurons) >= 3
    assert len(ours & their_neurons) / len(ours | their_neurons) >= 0.9


def test_importing_leaves_random_states_and_logging_alone(easyedit_home: Path) -> None:
    def states() -> tuple[Any, ...]:
        root = logging.getLogger()
        return (
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),
            list(root.handlers),
            root.level,
            logging.root.manager.disable,
        )

    before = states()
    with imported(easyedit_home, "models.rome.rome_main", "models.ft.ft_main"):
        pass
    assert states() == before
