"""KN: the attributions against a plain loop, which neurons are kept, and what is written into their value slots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import kn_hparams
from torch import nn

from kgt_editor.editors.kn.attribution import Attribution, coarse_neurons, neuron_sites, shared_neurons
from kgt_editor.editors.kn.editor import KNEditor, KNHParams, apply_kn_to_model
from kgt_editor.errors import KgtError, NumericalError, UnsupportedModelError, UsageError
from kgt_editor.lm.layers import frozen, get_module, linear_layer
from kgt_editor.lm.scoring import score_targets
from kgt_editor.lm.tokens import continuation_ids
from kgt_editor.requests import EditRequest

LM = tuple[Any, Any]
PROMPT, TRUE, NEW = "The mother tongue of Ada Brun is", "Old Velmoran", "Norrish"
REQUEST = {"prompt": PROMPT, "subject": "Ada Brun", "target_new": NEW, "ground_truth": TRUE}

SITES = pytest.mark.parametrize("preactivation", [False, True])


def probability(model: Any, tok: Any, prompt: str = PROMPT, target: str = TRUE) -> float:
    return torch.tensor(score_targets(model, tok, [prompt], [target])[0].log_prob).exp().item()


def attribution_of(lm: LM, preactivation: bool = False, prompt: str = PROMPT) -> Attribution:
    model, tok = lm
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return Attribution(model, tok, prompt, TRUE, neuron_sites(model, None, preactivation))


def plain_scores(model: Any, tok: Any, layer: int, preactivation: bool, steps: int) -> torch.Tensor:
    """The sum of section 3.2 word for word: one block, one step, the whole text in one row, no cache."""
    stem, target = continuation_ids(tok, PROMPT, TRUE)
    ids, last = torch.tensor([[*stem, *target[:-1]]]), len(stem) - 1
    gate, value = {
        "gpt2": (f"transformer.h.{layer}.mlp.c_fc", f"transformer.h.{layer}.mlp.c_proj"),
        "llama": (f"model.layers.{layer}.mlp.gate_proj", f"model.layers.{layer}.mlp.down_proj"),
    }[model.config.model_type]
    seen: list[torch.Tensor] = []

    def run(factor: float | None) -> tuple[torch.Tensor, torch.Tensor]:
        inserted = seen[0] * factor if seen and factor is not None else None
        if inserted is not None:
            inserted.requires_grad_()

        def replaced(states: torch.Tensor) -> torch.Tensor:
            if inserted is None:
                seen.append(states[0, last].detach())
                return states
            return torch.cat([states[:, :last], inserted[None, None], states[:, last + 1 :]], dim=1)

        if preactivation:
            handle = get_module(model, gate).register_forward_hook(lambda _, args, output: replaced(output))
        else:
            handle = get_module(model, value).register_forward_pre_hook(lambda _, args: (replaced(args[0]),))
        log_probs = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        handle.remove()
        chosen = [log_probs[last + i, token] for i, token in enumerate(target)]
        return torch.stack(chosen).sum().exp(), inserted

    run(None)
    total = torch.zeros_like(seen[0])
    for step in range(1, steps + 1):
        output, inserted = run(step / steps)
        total += torch.autograd.grad(output, inserted)[0]
    return seen[0] * total / steps


@SITES
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_attributions_equal_a_plain_loop(batch_size: int, preactivation: bool, tiny_lm: LM) -> None:
    model, tok = tiny_lm
    assert len(continuation_ids(tok, PROMPT, TRUE)[1]) > 1
    scores = attribution_of(tiny_lm, preactivation).scores(steps=5, batch_size=batch_size)
    wanted = torch.stack([plain_scores(model, tok, layer, preactivation, 5) for layer in range(3)])
    torch.testing.assert_close(scores, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


@SITES
def test_attributions_of_a_block_add_up_to_what_its_activations_do(preactivation: bool, tiny_lm: LM) -> None:
    # Completeness (Sundararajan et al. 2017): the sum is P with the activations minus P with zeros in their place.
    attribution = attribution_of(tiny_lm, preactivation)
    scores = attribution.scores(steps=400, batch_size=200)
    with torch.no_grad():
        zero, _ = attribution.probabilities([(site, 0.0) for site in range(3)])
        full, _ = attribution.probabilities([(site, 1.0) for site in range(3)])
    torch.testing.assert_close(full, torch.full((3,), probability(*tiny_lm)), rtol=1e-3, atol=0.0)
    assert ((full - zero).abs() / full > 0.05).any()
    torch.testing.assert_close(scores.sum(1), full - zero, rtol=2e-2, atol=1e-3 * full.max().item())


def test_a_prompt_of_one_token_is_attributed(tiny_lm: LM) -> None:
    model, _ = tiny_lm
    attribution = attribution_of(tiny_lm, prompt="The")
    with torch.no_grad():
        full, _ = attribution.probabilities([(0, 1.0), (2, 1.0)])
    assert full.tolist() == pytest.approx([probability(*tiny_lm, prompt="The")] * 2, rel=1e-3)
    assert attribution.scores(2, 10).shape == (
        3,
        model.config.hidden_size * (4 if hasattr(model, "transformer") else 2),
    )


def test_neurons_of_a_gated_mlp_are_gate_times_up(tiny_llama: LM) -> None:
    model, tok = tiny_llama
    attribution = attribution_of(tiny_llama)
    states: list[torch.Tensor] = []
    mlp = model.model.layers[1].mlp
    handle = mlp.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    with torch.no_grad():
        model(input_ids=torch.tensor([tok(PROMPT).input_ids]))
        handle.remove()
        wanted = nn.functional.silu(mlp.gate_proj(states[0][0, -1])) * mlp.up_proj(states[0][0, -1])
    torch.testing.assert_close(attribution.activations[1], wanted)
    assert (wanted < 0).any()


def test_coarse_neurons_are_those_above_a_share_of_the_largest() -> None:
    scores = torch.tensor([[0.1, 0.9, -2.0], [0.21, 1.0, 0.2]])
    assert coarse_neurons(scores, [3, 7], 0.2) == {(3, 1), (7, 0), (7, 1)}
    assert coarse_neurons(scores, [3, 7], 0.0) == {(3, 0), (3, 1), (7, 0), (7, 1), (7, 2)}
    assert coarse_neurons(-scores.abs(), [3, 7], 0.2) == set()


def test_shared_neurons_are_in_more_than_a_share_of_the_wordings() -> None:
    found = [{(0, 1), (0, 2)}, {(0, 1), (1, 5)}, {(0, 1), (0, 2)}, {(0, 1)}]
    assert shared_neurons(found, 0.7) == [(0, 1)]
    assert shared_neurons(found, 0.5) == [(0, 1)]
    assert shared_neurons(found, 0.4) == [(0, 1), (0, 2)]
    assert shared_neurons(found, 0.0) == [(0, 1), (0, 2), (1, 5)]


def test_refining_keeps_what_the_wordings_share(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    request = EditRequest.parse(REQUEST)
    prefixes = ("It rained.", "Tarsil is a town.")

    def neurons(**changes: Any) -> set[tuple[int, int]]:
        with frozen(model):
            return set(KNEditor(kn_hparams(model, layers=None, **changes)).knowledge_neurons(model, tok, request))

    alone = [
        coarse_neurons(attribution_of(tiny_lm, prompt=prompt).scores(4, 100), [0, 1, 2], 0.2)
        for prompt in (PROMPT, *(f"{prefix} {PROMPT}" for prefix in prefixes))
    ]
    assert alone[0] != alone[1]
    assert neurons(context_prefixes=prefixes) == alone[0]  # not read without refine
    assert neurons(context_prefixes=prefixes, refine=True, p=0.7) == set.intersection(*alone)
    assert neurons(context_prefixes=prefixes, refine=True, p=0.0) == set.union(*alone)


def test_an_edit_writes_embeddings_into_the_value_slots(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    hparams = kn_hparams(model, layers=None, lambda_true=0.5, lambda_new=3.0, lr_scale=2.0)
    with frozen(model):
        neurons = KNEditor(hparams).knowledge_neurons(model, tok, EditRequest.parse(REQUEST))
    signs = attribution_of(tiny_lm).activations
    head = model.get_output_embeddings().weight.detach()
    new, true = (head[continuation_ids(tok, PROMPT, target)[1]].mean(0) for target in (NEW, TRUE))
    before = {site.layer: linear_layer(model, site.value).matrix.detach().clone() for site in neuron_sites(model, None)}
    edited, _ = apply_kn_to_model(model, tok, [REQUEST], hparams, copy=True)
    for site in neuron_sites(model, None):
        wanted = before[site.layer]
        for layer, index in neurons:
            if layer == site.layer:
                wanted[:, index] += signs[layer][index].sign() * 2.0 * (3.0 * new - 0.5 * true)
        torch.testing.assert_close(linear_layer(edited, site.value).matrix.detach(), wanted)


def test_the_new_answer_becomes_likelier_and_the_old_one_less(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    before = probability(model, tok, target=NEW) / probability(model, tok, target=TRUE)
    edited, _ = apply_kn_to_model(model, tok, [REQUEST], kn_hparams(model, layers=(2,)))
    assert probability(edited, tok, target=NEW) / probability(edited, tok, target=TRUE) > 5 * before


def test_only_named_layers_are_candidates(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    editor = KNEditor(kn_hparams(model, layers=(2, 0)))
    with frozen(model):
        neurons = editor.knowledge_neurons(model, tok, EditRequest.parse(REQUEST))
    assert {layer for layer, _ in neurons} <= {0, 2}
    assert len(KNEditor(kn_hparams(model, layers=None)).layers(model)) == 3
    supported, reason = KNEditor(kn_hparams(model, layers=(5,))).supports(model)
    assert not supported
    assert "blocks 0 to 2, not 5" in reason
    with pytest.raises(UnsupportedModelError, match="not 5"):
        KNEditor(kn_hparams(model, layers=(5,))).apply(model, tok, [REQUEST])


def test_no_shared_neuron_is_an_error_that_leaves_the_model(tiny_gpt2: LM) -> None:
    model, tok = tiny_gpt2
    prefixes = ("It rained.", "Tarsil is a town.", "Milo Castrel was born in", "Who?")
    # Only the very largest neuron of each wording is found, and they differ.
    hparams = kn_hparams(model, layers=None, adaptive_threshold=0.999, refine=True, p=0.9, context_prefixes=prefixes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    good = {**REQUEST, "prompt": "x"}
    with pytest.raises(KgtError, match=r"'Old Velmoran' after 'The mother.*more than 0\.9 of 5 wordings; lower p"):
        KNEditor(hparams).apply(model, tok, [REQUEST, {**good, "subject": ""}])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_nan_is_reported_and_leaves_the_model(tiny_gpt2: LM) -> None:
    model, tok = tiny_gpt2
    with torch.no_grad():
        model.transformer.h[2].mlp.c_fc.bias.fill_(float("nan"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(NumericalError, match="attributions of 'The mother"):
        KNEditor(kn_hparams(model)).apply(model, tok, [REQUEST])
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(7.0), before[name].nan_to_num(7.0)), name


@pytest.mark.parametrize("truth", [None, " ", ["Quindle"]])
def test_a_request_without_the_old_answer_is_refused(truth: Any, tiny_gpt2: LM) -> None:
    model, tok = tiny_gpt2
    with pytest.raises(UsageError, match="request for case 3: KN needs the field 'ground_truth'"):
        KNEditor(kn_hparams(model)).apply(model, tok, [{**REQUEST, "case_id": 3, "ground_truth": truth}])


def test_a_prompt_too_long_for_the_model_is_refused(tiny_gpt2: LM) -> None:
    model, tok = tiny_gpt2
    prompt = "Ada Brun " * 200 + "is"
    with pytest.raises(UsageError, match="does not fit the model's context of 256"):
        KNEditor(kn_hparams(model)).apply(model, tok, [{**REQUEST, "prompt": prompt}])


# The keys of EasyEdit's files.
EASYEDIT = """\
alg_name: "KN"
model_name: "./hugging_cache/some-model"
device: 0
lr_scale: 1.0
n_toks: 10
refine: false
batch_size: 1
steps: 1
adaptive_threshold: 0.2
p: 0.4
"""


def test_easyedits_own_file_is_accepted(tmp_path: Path, tiny_gpt2: LM) -> None:
    path = tmp_path / "kn.yaml"
    path.write_text(EASYEDIT, encoding="utf-8")
    hparams = KNHParams.from_hparams(path)
    assert (hparams.steps, hparams.p, hparams.layers) == (1, 0.4, None)
    assert not hasattr(hparams, "n_toks")
    model, tok = tiny_gpt2
    assert KNEditor(hparams).apply(model, tok, [REQUEST], return_orig_weights=True)[1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"lambda_neu": 3}, "unknown key 'lambda_neu'.*lambda_new"),
        ({"p": 1.0}, "'p' = 1.0.*less than 1"),
        ({"adaptive_threshold": -0.1}, "adaptive_threshold"),
        ({"layers": ()}, "layers"),
        ({"attribute_to": "gate"}, "attribute_to.*'activation' or 'preactivation'"),
    ],
)
def test_bad_settings_are_refused_by_name(change: dict[str, Any], match: str, tiny_gpt2: LM) -> None:
    values = kn_hparams(tiny_gpt2[0]).model_dump()
    with pytest.raises(UsageError, match=match):
        KNHParams.build({**values, **change}, "test")
