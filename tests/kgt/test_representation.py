"""How questions are told apart: Fisher's directions, and what is kept of a model in the cache folder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from kgt_editor.kgt.representation import (
    FRAMES,
    Representations,
    _telling_apart,
    kinds,
    neutral_sentences,
    nouns,
    relation_sentences,
)

LM = tuple[Any, Any]


def test_the_directions_are_those_of_the_closed_form() -> None:
    """Fewer texts than directions of the space: the covariance's inverse root is taken without making the matrix."""
    torch.manual_seed(0)
    kind = torch.tensor([number for number in range(5) for _ in range(number + 2)])
    states = torch.randn(len(kind), 40) + 2 * torch.randn(5, 40)[kind]
    found = _telling_apart(states, kind)
    count = torch.bincount(kind)
    means = torch.stack([states[kind == number].mean(0) for number in range(5)])
    within = torch.zeros(40, 40)
    for number in range(5):
        apart = states[kind == number] - means[number]
        within += apart.T @ apart * count[number] / (count[number] - 1) / len(kind)
    within += (within.diagonal().mean() + 1e-4) * torch.eye(40)
    values, axes = torch.linalg.eigh(within)
    whiten = axes @ torch.diag(values.rsqrt()) @ axes.T
    directions = torch.linalg.svd((means - means.mean(0)) @ whiten, full_matrices=False)[2][:4]
    expected = whiten @ directions.T
    assert found.shape == (40, 4)
    assert torch.allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_what_tells_kinds_apart_is_seen_and_what_varies_within_them_is_not() -> None:
    torch.manual_seed(0)
    kind = torch.arange(12).repeat_interleave(20)
    topics, form = torch.randn(12, 8), 3 * torch.randn(len(kind), 8)
    states = torch.cat([topics[kind] + 0.1 * torch.randn(len(kind), 8), form], dim=1)
    alike = kind[:, None] == kind[None]

    def told_apart(seen: torch.Tensor) -> float:
        near = torch.nn.functional.normalize(seen, dim=1)
        near = near @ near.T
        return float(near[alike].mean() - near[~alike].mean())

    centred = states - states.mean(0)
    assert told_apart(centred @ _telling_apart(centred, kind)) > 2 * told_apart(centred)


def test_every_kind_has_wordings_enough_to_say_how_they_vary() -> None:
    assert set(relation_sentences()) <= set(neutral_sentences())
    assert sum(len(listed) for listed in relation_sentences().values()) > len(neutral_sentences())
    assert set(nouns()) == set(neutral_sentences())
    assert len(set(nouns().values())) == len(nouns())
    assert all(len(wordings) >= 2 + len(FRAMES) for wordings in kinds().values())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path))
    return tmp_path / "sentences"


def test_another_process_does_not_read_the_sentences_again(tiny_lm: LM, cache: Path) -> None:
    model, tok = tiny_lm
    texts = ["X was born in", "What is the mother tongue of X?"]
    first = Representations(model, tok)
    (file,) = cache.iterdir()
    read: list[int] = []
    hook = model.register_forward_hook(lambda *_: read.append(1))
    second = Representations(model, tok)
    hook.remove()
    assert len(read) == 1  # those that are read to see whether the model is the same
    assert torch.allclose(first(texts), second(texts), atol=1e-3)
    file.write_bytes(file.read_bytes()[:1000])  # a file that was cut off
    assert torch.allclose(Representations(model, tok)(texts), first(texts), atol=1e-3)


def test_a_model_with_other_weights_is_asked_itself(tiny_lm: LM, cache: Path) -> None:
    model, tok = tiny_lm
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    Representations(model, tok)
    after_another, alone = Representations(other, tok), None
    for file in cache.iterdir():
        file.unlink()
    alone = Representations(other, tok)
    texts = ["X was born in", "What is the mother tongue of X?"]
    assert torch.allclose(after_another(texts), alone(texts), atol=1e-3)


def test_a_cache_that_cannot_be_written_is_done_without(
    tiny_lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "file"))
    assert Representations(*tiny_lm)(["X was born in"]).shape[0] == 1
