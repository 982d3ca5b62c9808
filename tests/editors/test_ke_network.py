"""KE's network: what it reads and the changes it predicts, against the equations worked out by hand."""

from __future__ import annotations

from typing import Any

import torch
from editor_builders import MEND_LAYERS

from kgt_editor.editors.factors import Factors, gradient_factors, layer_shapes
from kgt_editor.editors.hypernet.ke_network import KENetwork, root_mean_square, weight_scales
from kgt_editor.editors.targets import TargetBatch, encode_targets
from kgt_editor.lm.layers import linear_layer

LM = tuple[Any, Any]


def edit_batch(lm: LM, records: Any) -> TargetBatch:
    model, tok = lm
    return encode_targets(model, tok, [record.query for record in records], [record.target_new for record in records])


def untrained(model: Any, edit_lr: float = 0.25) -> KENetwork:
    names = MEND_LAYERS[model.config.model_type]
    shapes, scales = layer_shapes(model, names), weight_scales(model, names)
    return KENetwork(shapes, scales, 32, lstm_dim=8, hidden_dim=16, edit_lr=edit_lr, seed=0)


def shaken(network: KENetwork) -> KENetwork:
    """The network with predictions of its own for every edit and layer."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.vectors.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator))
    return network


def random_factors(network: KENetwork, rows: int, tokens: int) -> dict[str, Factors]:
    generator = torch.Generator().manual_seed(2)
    return {
        name: Factors(
            torch.randn(rows, tokens, features, generator=generator),
            torch.randn(rows, tokens, out, generator=generator),
        )
        for name, (out, features) in network.shapes.items()
    }


def row(factors: Factors, number: int) -> torch.Tensor:
    return factors.select(torch.tensor([number])).matrix()


def test_network_starts_as_a_step_along_the_scaled_gradient(tiny_lm: LM, tiny_records: Any) -> None:
    model = tiny_lm[0]
    network, batch = untrained(model), edit_batch(tiny_lm, tiny_records[:3])
    factors, _ = gradient_factors(model, batch, list(network.shapes))
    for name, edit in network.edits(model, batch).items():
        weight = linear_layer(model, name).weight
        for number in range(3):
            gradient = row(factors[name], number)
            step = gradient / gradient.square().mean().sqrt() * weight.square().mean().sqrt()
            torch.testing.assert_close(row(edit, number), -0.25 / 2 * step, rtol=1e-4, atol=1e-6)


def test_factors_equal_the_dense_equation(tiny_lm: LM) -> None:
    model = tiny_lm[0]
    network = shaken(untrained(model))
    factors = random_factors(network, rows=2, tokens=3)
    condition = torch.randn(2, 16, generator=torch.Generator().manual_seed(3))
    edits = network(condition, factors)
    predicted = iter(network.vectors(condition).split(network._sizes, dim=-1))
    for number, (name, (out, _)) in enumerate(network.shapes.items()):
        vectors = [next(predicted) for _ in range(5)]
        for edit in range(2):
            alpha, beta, gamma, delta, eta = (vector[edit] for vector in vectors)
            gradient = row(factors[name], edit)
            gradient = gradient / gradient.square().mean().sqrt()
            gate, shift = out * torch.outer(alpha.softmax(0), gamma), out * torch.outer(beta.softmax(0), delta)
            rate = network.edit_lrs[number] * network.scales[number] * eta.sigmoid()
            torch.testing.assert_close(row(edits[name], edit), -rate * (gate * gradient + shift), rtol=1e-4, atol=1e-5)


def test_gradients_of_the_predicted_vectors_are_those_worked_out_by_hand(tiny_gpt2: LM) -> None:
    model = tiny_gpt2[0]
    network = shaken(untrained(model))
    factors = random_factors(network, rows=1, tokens=2)
    name, (out, features) = next(iter(network.shapes.items()))
    slope = torch.randn(out, features, generator=torch.Generator().manual_seed(4))
    condition = torch.zeros(1, 16)  # the vectors are then the biases
    (network(condition, factors)[name].matrix() * slope).sum().backward()

    found = network.vectors.bias.grad.split(network._sizes)[:5]
    alpha, beta, gamma, delta, eta = network.vectors.bias.detach().split(network._sizes)[:5]
    gradient = factors[name].matrix()
    gradient = gradient / gradient.square().mean().sqrt()
    a, b = alpha.softmax(0), beta.softmax(0)
    rate = -(network.edit_lrs[0] * network.scales[0] * eta.sigmoid() * out).detach()
    gated = slope * gradient
    total = a @ gated @ gamma + b @ slope @ delta
    jacobian_a, jacobian_b = torch.diag(a) - torch.outer(a, a), torch.diag(b) - torch.outer(b, b)
    expected = (
        rate * jacobian_a @ gated @ gamma,
        rate * jacobian_b @ slope @ delta,
        rate * a @ gated,
        rate * b @ slope,
        rate * (1 - eta.sigmoid()) * total,
    )
    for ours, by_hand in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-3, atol=1e-4)


def test_root_mean_square_is_that_of_the_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = Factors(torch.randn(2, 4, 5, generator=generator), torch.randn(2, 4, 3, generator=generator))
    expected = torch.stack([row(factors, number).square().mean().sqrt() for number in range(2)])
    torch.testing.assert_close(root_mean_square(factors, 15), expected)


def test_an_edit_the_model_has_made_already_stays_finite(tiny_gpt2: LM) -> None:
    network = untrained(tiny_gpt2[0])
    nothing = {name: Factors(x.inputs, x.outputs * 0) for name, x in random_factors(network, 1, 2).items()}
    for edit in network(torch.zeros(1, 16), nothing).values():
        assert not edit.matrix().any()


def test_it_reads_the_prompt_the_old_answer_and_the_new_one(tiny_lm: LM, tiny_records: Any) -> None:
    model, tok = tiny_lm
    network, batch = untrained(model), edit_batch(tiny_lm, tiny_records[:3])
    logits = gradient_factors(model, batch, list(network.shapes))[1]
    texts, lengths = network.read(model, batch, logits)
    for number, record in enumerate(tiny_records[:3]):
        prompt = tok(record.query).input_ids
        new = tok(f"{record.query} {record.target_new}").input_ids[len(prompt) :]
        old = max(range(len(tok)), key=lambda token: model_log_prob(model, prompt, token))
        embedded = model.get_input_embeddings()(torch.tensor([*prompt, old, *new]))
        embedded = (embedded - embedded.mean(-1, True)) / embedded.std(-1, unbiased=False, keepdim=True)
        expected = [*embedded[: len(prompt)], network.separators[0], embedded[len(prompt)], network.separators[1]]
        expected += list(embedded[len(prompt) + 1 :])
        assert lengths[number] == len(expected)
        torch.testing.assert_close(texts[number, : len(expected)], torch.stack(expected), rtol=1e-3, atol=1e-3)


def model_log_prob(model: Any, prompt: list[int], token: int) -> float:
    with torch.no_grad():
        return model(input_ids=torch.tensor([prompt])).logits[0, -1, token].item()


def test_texts_of_a_batch_do_not_see_each_others_padding(tiny_gpt2: LM) -> None:
    network = untrained(tiny_gpt2[0])
    texts = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0))
    together = network.condition(texts, [7, 4])
    torch.testing.assert_close(together[1], network.condition(texts[1:, :4], [4])[0])


def test_other_edits_get_other_changes(tiny_lm: LM, tiny_records: Any) -> None:
    model = tiny_lm[0]
    network = shaken(untrained(model))
    record = tiny_records[0]
    batch = edit_batch(tiny_lm, [record])
    logits = gradient_factors(model, batch, list(network.shapes))[1]
    first = network.condition(*network.read(model, batch, logits))
    # The same prompt where the model would have said something else.
    second = network.condition(*network.read(model, batch, -logits))
    assert not torch.allclose(first, second)
