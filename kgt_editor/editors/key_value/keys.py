"""What ROME needs once a model: texts to stand before the prompt, and the second moments of the keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kgt_editor.data import world
from kgt_editor.data.record import Record
from kgt_editor.editors import cache
from kgt_editor.editors.base import Progress
from kgt_editor.editors.targets import pad_right
from kgt_editor.errors import NumericalError, UsageError
from kgt_editor.lm.layers import device_of, frozen, linear_layer
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.trace import Trace

# Bump when the statistics on disk change their meaning.
COVARIANCE_VERSION = "3"

# Added to C's diagonal, relative to its mean: units that never fire would leave C singular.
_RIDGE = 1e-6

#: What ``mom2_dataset`` says where the text is made of the training records.
TRAINING = "training"

# Ordinary openings, so that texts differ even where the model's first token is almost certain.
_OPENINGS = ("The", "In", "It", "She", "When")
_TOP_K = 10


@torch.no_grad()
def written_texts(model: nn.Module, tok: Any, tokens: int, how_many: int, seed: int) -> list[str]:
    """Texts of ``tokens`` tokens that the model writes itself, by top-k sampling; the same for the same seed.

    No global random state is read or changed.
    """
    generator = torch.Generator().manual_seed(seed)
    device = device_of(model)
    texts = []
    with frozen(model):
        for number in range(how_many):
            ids: Tensor = torch.tensor([tok(_OPENINGS[number % len(_OPENINGS)]).input_ids], device=device)
            for _ in range(tokens):
                logits = model(input_ids=ids, use_cache=False).logits[0, -1].float().cpu()
                top = logits.topk(min(_TOP_K, len(logits)))
                drawn = torch.multinomial(top.values.softmax(-1), 1, generator=generator)
                ids = torch.cat([ids, top.indices[drawn].view(1, 1).to(device)], dim=1)
            texts.append(" ".join(tok.decode(ids[0], skip_special_tokens=True).split()))
    return texts


def context_prefixes(
    model: nn.Module, tok: Any, given: Sequence[str], lengths: Sequence[tuple[int, int]], seed: int
) -> list[str]:
    """Texts that stand before the edit prompt so that k* and v* are not those of one wording (section 3.1).

    The first is empty. The others are ``given``, or sentences of the model's own where none are given.

    Args:
        given: prefixes from the hyperparameters.
        lengths: ``(tokens, how many)`` pairs.
    """
    if given:
        return ["", *given]
    texts = [
        text for tokens, how_many in lengths for text in written_texts(model, tok, tokens, how_many, seed + tokens)
    ]
    return ["", *(f"{text.rstrip('.')}." for text in texts)]


@dataclass(frozen=True)
class Covariance:
    """Second moments C = E[k k^T] of a layer's inputs, as their Cholesky factor (in, in), float64."""

    factor: Tensor

    @classmethod
    def of(cls, moments: Tensor, layer: str, dtype: torch.dtype = torch.float64) -> Covariance:
        """From C itself, (in, in), of the linear layer called ``layer``; ``dtype`` is what it was summed in.

        Raises:
            NumericalError: C holds NaN or infinity.
        """
        # C's smallest eigenvalues lie below what its sums were rounded by, which may make them negative.
        rounding = torch.finfo(dtype).eps * moments.trace()
        ridge = torch.maximum(_RIDGE * moments.diagonal().mean(), rounding)
        factor, broken = torch.linalg.cholesky_ex(moments + ridge * torch.eye(len(moments), device=moments.device))
        if bool(broken) or not bool(factor.isfinite().all()):
            raise NumericalError(
                f"the covariance of the keys of '{layer}' cannot be inverted; load the model in float32, give another "
                "text as mom2_dataset, or set mom2_adjustment: false for ROME"
            )
        return cls(factor)

    def solve(self, keys: Tensor) -> Tensor:
        """C^-1 k of one key, (in,), or of several, (keys, in)."""
        columns = keys.reshape(-1, keys.shape[-1]).T.to(self.factor.dtype)
        return torch.cholesky_solve(columns, self.factor).T.reshape(keys.shape).to(keys.dtype)


def key_moments(
    model: nn.Module,
    tok: Any,
    layers: Sequence[str],
    dataset: str,
    samples: int,
    dtype: torch.dtype,
    progress: Progress | None = None,
    training: Sequence[Record] = (),
) -> dict[str, Tensor]:
    """Counts C of linear layers over the tokens of a text, (in, in) and float64 by layer.

    Kept on disk, a file a layer, under the hash of the weights, the text and the numbers given.

    Args:
        model, tok: the unedited model and its tokenizer.
        layers: names of the layers.
        dataset: path of a local text, one passage a line; ``training``: what the training records say, before any
            edit; or ``world``: the sentences the testbed models know.
        samples: how many passages are read.
        dtype: type the products are summed in.
        progress: called with passages done and their number.
        training: the training records.

    Raises:
        UsageError: ``dataset`` is no file that can be read and neither of the two words, or there are no records.
        NumericalError: it has fewer tokens than a layer has inputs.
    """
    passages = _passages(dataset, samples, training)
    weights = cache.weights_hash(model)
    keys = {name: cache.text_hash(COVARIANCE_VERSION, weights, name, str(dtype), *passages) for name in layers}
    with cache.alone("covariance", cache.text_hash(*keys.values())):
        kept = {name: cache.load("covariance", key) for name, key in keys.items()}
        found = {name: value for name, value in kept.items() if value and set(value) == {"moments", "tokens"}}
        missing = [name for name in layers if name not in found]
        if missing:
            found |= _count_moments(model, tok, missing, passages, dtype, progress)
            for name in missing:
                cache.save("covariance", keys[name], found[name])
    for name in layers:
        tokens, width = int(found[name]["tokens"]), len(found[name]["moments"])
        if tokens < width:
            raise NumericalError(
                f"the covariance of the keys of '{name}' cannot be inverted: {dataset} has {tokens} tokens and the "
                f"layer {width} inputs; give a longer text, or set mom2_adjustment: false for ROME"
            )
    return {name: found[name]["moments"].to(device_of(model), torch.float64) for name in layers}


def _passages(dataset: str, samples: int, training: Sequence[Record]) -> list[str]:
    if dataset == TRAINING:
        found = dict.fromkeys(text for record in training for text in _statements(record))
        if not found:
            raise UsageError(
                "mom2_dataset 'training' needs training records, and there are none: give a local text, one passage a "
                "line (--set rome.mom2_dataset=FILE), or set mom2_adjustment: false"
            )
        return list(found)[:samples]
    if dataset == "world":
        return [
            f"{sentence.replace('{}', fact.subject)} {fact.object}"
            for fact in world.book().facts
            for sentence in world.book().trained_templates(fact)
        ][:samples]
    path = Path(dataset)
    if not dataset or not path.is_file():
        raise UsageError(
            f"mom2_dataset '{dataset}' is no file, and nothing is downloaded: give a local text, one passage a line "
            "(--set rome.mom2_dataset=FILE), 'training' for the training records, or 'world' for a testbed model; "
            "without the covariance, set mom2_adjustment: false"
        )
    try:
        with path.open(encoding="utf-8") as lines:
            passages = list(islice((line.strip() for line in lines if line.strip()), samples))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"mom2_dataset '{dataset}' cannot be read as UTF-8 text: {error}") from None
    if not passages:
        raise UsageError(f"mom2_dataset '{dataset}' holds no text")
    return passages


def _statements(record: Record) -> Iterator[str]:
    """What a record's prompts say before any edit, where that is known."""
    if not record.target_true:
        return
    for prompt in (record.query, *record.paraphrase_prompts, *record.neighbourhood_prompts):
        yield f"{prompt.strip()} {record.target_true}."


@torch.no_grad()
def _count_moments(
    model: nn.Module, tok: Any, layers: list[str], passages: list[str], dtype: torch.dtype, progress: Progress | None
) -> dict[str, dict[str, Tensor]]:
    """``moments`` and the number of ``tokens`` by layer."""
    device = device_of(model)
    longest = max_positions(model) or 1024
    batch_size = 64
    widths = {name: linear_layer(model, name).shape[1] for name in layers}
    totals = {name: torch.zeros(width, width, dtype=dtype, device=device) for name, width in widths.items()}
    count = 0
    with frozen(model):
        for start in range(0, len(passages), batch_size):
            rows = [row[:longest] for row in tok(passages[start : start + batch_size]).input_ids]
            ids, mask = pad_right(rows, tok.pad_token_id or 0, device)
            with Trace(model, layers, stop=True) as trace:
                model(input_ids=ids, attention_mask=mask, use_cache=False)
            for name in layers:
                keys = trace[name].input[mask.bool()].to(dtype)
                totals[name] += keys.T @ keys
            count += int(mask.sum())
            if progress is not None:
                progress("statistics of the keys", min(start + batch_size, len(passages)), len(passages))
    return {name: {"moments": total / count, "tokens": torch.tensor(count)} for name, total in totals.items()}
