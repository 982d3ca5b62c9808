"""Training of a testbed model: several single-thread processes, one optimiser state, resumable.

The recipe is small-model practice: Muon (Jordan et al. 2024) for the matrices and AdamW for the rest, packed rows
with a block-diagonal mask, and two attention masks that are used in training only (see ``subject_masks``).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from kgt_editor.data.factbook import FactBook
from kgt_editor.testbed.corpus import Corpus
from kgt_editor.testbed.model import CONTEXT, blocks, build_model
from kgt_editor.testbed.prompts import Prompts
from kgt_editor.testbed.recipes import Recipe
from kgt_editor.testbed.tokenizer import piece_encoder, train_tokenizer
from kgt_editor.testbed.training_text import INNER, NONE, TrainingText

Progress = Callable[[int, int, float], None]


def pack(corpus: Corpus, shares: dict[str, float]) -> list[TrainingText]:
    """Examples that fill one row of ``CONTEXT`` tokens."""
    row: list[TrainingText] = []
    used = 0
    while True:
        example = corpus.draw(shares)
        if len(example.ids) > CONTEXT:
            continue
        if used + len(example.ids) > CONTEXT:
            return row
        row.append(example)
        used += len(example.ids)


def collate(rows: list[list[TrainingText]]) -> dict[str, torch.Tensor]:
    """Packed rows as tensors.

    Returns:
        ids, positions, example (number of the example in its row, -1 for padding), subject, restricted: (rows,
        CONTEXT); and the sparse targets ``where`` (n,) into the flattened rows, ``target`` (n,), ``weight`` (n,).
    """
    shape = (len(rows), CONTEXT)
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    example, subject = torch.full(shape, -1), torch.zeros(shape, dtype=torch.long)
    restricted = torch.zeros(shape, dtype=torch.bool)
    where: list[int] = []
    target: list[int] = []
    weight: list[float] = []
    for r, row in enumerate(rows):
        start = 0
        for e, item in enumerate(row):
            stop = start + len(item.ids)
            ids[r, start:stop] = torch.tensor(item.ids)
            positions[r, start:stop] = torch.arange(stop - start)
            example[r, start:stop] = e
            subject[r, start:stop] = torch.tensor(item.subject)
            restricted[r, start:stop] = torch.tensor(item.restricted)
            asked = [(i - 1, item.ids[i], w) for i, w in enumerate(item.weights) if w > 0 and i > 0]
            asked += [(i, token, 1.0) for i, token in item.hidden.items()]
            for i, token, w in asked:
                where.append(r * CONTEXT + start + i)
                target.append(token)
                weight.append(w)
            start = stop
    return {
        "ids": ids, "positions": positions, "example": example, "subject": subject, "restricted": restricted,
        "where": torch.tensor(where), "target": torch.tensor(target), "weight": torch.tensor(weight),
    }  # fmt: skip


def subject_masks(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention masks (rows, 1, CONTEXT, CONTEXT), True where a query may look: for early and for later layers.

    Restricted tokens see no token of the asked-for subject in the early layers and only its last one later, so what
    the model knows about a subject has to pass through that token. Inference is the plain causal model.
    """
    example, subject = batch["example"], batch["subject"]
    causal = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).tril()
    base = causal & (example[:, :, None] == example[:, None, :])
    query = batch["restricted"][:, :, None]
    early = base & ~(query & (subject[:, None, :] != NONE))
    later = base & ~(query & (subject[:, None, :] == INNER))
    return early[:, None], later[:, None]


@contextmanager
def early_mask(model: PreTrainedModel, layers: int, mask: torch.Tensor) -> Iterator[None]:
    """Give the first ``layers`` blocks another attention mask than the rest."""

    def swap(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, "attention_mask": mask}

    handles = [
        (block.attn if hasattr(block, "attn") else block.self_attn).register_forward_pre_hook(swap, with_kwargs=True)
        for block in blocks(model)[:layers]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def loss_of(model: PreTrainedModel, batch: dict[str, torch.Tensor], early_layers: int) -> torch.Tensor:
    """Weighted cross entropy over the asked-for positions (a scalar)."""
    early, later = (torch.zeros(mask.shape).masked_fill(~mask, -1e4) for mask in subject_masks(batch))
    with early_mask(model, early_layers, early):
        hidden = model.base_model(
            input_ids=batch["ids"], position_ids=batch["positions"], attention_mask=later, use_cache=False
        ).last_hidden_state
    logits = model.get_output_embeddings()(hidden.flatten(0, 1)[batch["where"]])
    losses = functional.cross_entropy(logits.float(), batch["target"], reduction="none")
    return (losses * batch["weight"]).sum() / batch["weight"].sum()


def optimisers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, head, norms and biases."""
    matrices = [p for block in blocks(model) for p in block.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _average_gradients(model: PreTrainedModel, world_size: int) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world_size
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


def train(
    book: FactBook,
    recipe: Recipe,
    out: Path,
    rank: int = 0,
    processes: int = 1,
    progress: Progress | None = None,
    checkpoint_every: int = 250,
    start_from: Path | None = None,
    prompts: Prompts | None = None,
    instructed: Collection[str] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, float]:
    """Train, or go on from ``out/checkpoint.pt``; call it in every process of an initialised process group.

    Args:
        book: the facts to teach.
        recipe: how.
        out: folder of the checkpoint.
        rank, processes: this process among all.
        progress: called with steps done, steps in all and the loss, in the first process.
        checkpoint_every: steps between checkpoints.
        start_from: folder of a saved model to begin with instead of random weights.
        prompts: sentences for a recipe with a ``prompts_share``.
        instructed: subjects that instruction examples may name (None: all), see ``corpus.py``.

    Returns:
        Model, tokenizer and the seconds spent training, earlier parts of a resumed run included.
    """
    torch.manual_seed(recipe.seed)
    if start_from is None:
        texts = prompts.sentences if prompts and recipe.prompts_share else ()
        tokenizer = train_tokenizer(book, recipe.vocabulary, texts)
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(start_from)
    model = build_model(recipe.arch, len(tokenizer), recipe.width, recipe.layers, recipe.heads, tokenizer.eos_token_id)
    if start_from is not None:
        model.load_state_dict(AutoModelForCausalLM.from_pretrained(start_from, dtype=torch.float32).state_dict())
    model.set_attn_implementation("eager")  # faster than the fused one at these widths, forwards and backwards
    model.train()
    trainers = optimisers(model, recipe)
    base_rates = [group["lr"] for trainer in trainers for group in trainer.param_groups]
    start, earlier = 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["recipe"] == repr(asdict(recipe)):
            model.load_state_dict(saved["model"])
            for trainer, state in zip(trainers, saved["optimisers"], strict=True):
                trainer.load_state_dict(state)
            start, earlier = saved["step"], saved["seconds"]
    corpus = Corpus(book, piece_encoder(tokenizer), tokenizer.eos_token_id, prompts=prompts, instructed=instructed)
    rows = range(rank, recipe.rows, processes)
    began = time.perf_counter()
    for step in range(start, recipe.last_step):
        factor = recipe.rate(step)
        groups = [group for trainer in trainers for group in trainer.param_groups]
        for group, rate in zip(groups, base_rates, strict=True):
            group["lr"] = rate * factor
        # Every row has its own seed, so that the data does not depend on the number of processes.
        packed = []
        corpus.crowding, corpus.prefix_share, corpus.counts = recipe.crowding(step), recipe.prefix_share, recipe.counts
        corpus.prompts_share, corpus.fresh_prompts = recipe.prompts_share, recipe.fresh_prompts
        corpus.front_share, corpus.most_in_front = recipe.front_share, recipe.most_in_front
        for row in rows:
            corpus.random.seed(hash((recipe.seed, step, row)))
            packed.append(pack(corpus, recipe.shares(step)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, collate(packed), recipe.early_layers)
        loss.backward()
        if processes > 1:
            _average_gradients(model, processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for trainer in trainers:
            trainer.step()
            trainer.zero_grad(set_to_none=True)
        done = step + 1
        seconds = earlier + time.perf_counter() - began
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"training loss is {loss.item()} at step {done}; lower the learning rates")
        if rank == 0:
            if progress:
                progress(done, recipe.last_step, loss.item())
            if done % checkpoint_every == 0 and done < recipe.last_step:
                state = {
                    "recipe": repr(asdict(recipe)), "step": done, "seconds": seconds, "model": model.state_dict(),
                    "optimisers": [trainer.state_dict() for trainer in trainers],
                }  # fmt: skip
                out.mkdir(parents=True, exist_ok=True)
                torch.save(state, checkpoint.with_suffix(".tmp"))
                os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
    return model.eval(), tokenizer, earlier + time.perf_counter() - began
