"""A few short texts, read in trees, in padded rows and alone: what shows that a model can be read in a way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kgt_editor.lm.layers import text_config
from kgt_editor.lm.packed import run_packed
from kgt_editor.lm.rows import Pair, row_log_probs
from kgt_editor.lm.tree import Branch, Tree, branch_passes


def difference(found: Tensor, wanted: Tensor) -> float:
    """How far apart log probabilities (positions, vocabulary) lie, in units of how much they vary over the vocabulary.

    The root mean square of the differences, over the likelier half of the vocabulary (what a model rules out
    altogether would drown the rest), by the standard deviation there; of the positions, the largest.
    """
    wanted = wanted.to(found.device)
    kept = wanted >= wanted.median(dim=-1, keepdim=True).values
    count = kept.sum(-1).clamp(min=2)
    mean = wanted.where(kept, 0).sum(-1, keepdim=True) / count[:, None]
    spread = (wanted - mean).where(kept, 0).square().sum(-1) / count
    apart = (found - wanted).where(kept, 0).square().sum(-1) / count
    ratios = (apart / spread.clamp(min=1e-12)).sqrt()
    return float(ratios.nan_to_num(nan=float("inf")).max())


def vocabulary_size(model: Any) -> int:
    """How many token ids the model has for sure."""
    return getattr(text_config(model), "vocab_size", None) or 2


@dataclass(frozen=True)
class Sample:
    """Two texts that share their trunk, and a beginning of the first.

    Attributes:
        first: its continuation begins within the trunk.
        second: its continuation begins where the two part.
        part: where the two part.
        few: tokens of a shorter continuation, fewer than are left of the trunk.
    """

    first: Pair
    second: Pair
    part: int
    few: int

    @classmethod
    def of(cls, model: Any, length: int) -> Sample | None:
        """Texts of ``length`` tokens for the model's vocabulary; none where that is too short."""
        if length < 6:
            return None
        part = length - max(2, length // 6)
        cut = part * 2 // 3
        size = vocabulary_size(model)
        # A fixed mixture of ids: a random generator is left alone.
        ids = [(7 * place * place + 11 * place + 5) % size for place in range(length)]
        other = ids[:part] + [(token + 1) % size for token in ids[part:]]
        return cls((ids[:cut], ids[cut:]), (other[:part], other[part:]), part, min(4, part - cut))

    def alone(self, model: Any) -> tuple[Tensor, Tensor]:
        """Log probabilities (tokens, vocabulary) of the two continuations, each text in a pass of its own."""
        first, second = (row_log_probs(model, [pair], alone=True)[0] for pair in (self.first, self.second))
        return first, second

    def in_rows(self, model: Any, first: Tensor, second: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Log probabilities found in padded rows, beside those of :meth:`alone`."""
        context, continuation = self.first
        at_part = self.part - len(context)
        # Rows of which none is another one's beginning: such a one would be read off the other's row, without padding.
        close = row_log_probs(model, [self.second, (self.second[0], [continuation[at_part], 0])])
        size = vocabulary_size(model)
        other = [(token + 1) % size for token in context + continuation]
        short = row_log_probs(model, [(context, continuation[: self.few]), (other[: self.part], other[self.part :])])
        return [(close[0], second), (close[1][:1], first[at_part : at_part + 1]), (short[0], first[: self.few])]

    def in_trees(self, model: Any, first: Tensor, second: Tensor, wide: int) -> list[tuple[Tensor, Tensor]]:
        """Log probabilities found in trees, several a pass and growing, beside those of :meth:`alone`.

        ``wide`` more nodes stand between the two texts' branches in the first tree.
        """
        context, continuation = self.first
        short = (context, continuation[: self.few])
        at_part = self.part - len(context)
        trunk, branches = self.second[0], [continuation[at_part:], self.second[1]]
        fill = [[token + number for token in branches[0]] for number in range(2, 2 + -(-wide // len(branches[0])))]
        size = vocabulary_size(model)
        between = [(trunk, [token % size for token in tokens] + [0]) for tokens in fill]
        pairs = [(trunk, branches[0]), *between, (trunk, branches[1])]
        logits, places = run_packed(model, [pairs, [short]])
        parts = torch.tensor(places).split([len(target) for _, target in [*pairs, short]])
        compared = [
            (logits[rows.to(logits.device)].float().log_softmax(-1), right)
            for rows, right in ((parts[0], first[at_part:]), (parts[-2], second), (parts[-1], first[: self.few]))
        ]
        # As kgt.ranking reads: prompts, then what is behind their ends, some branches a pass, the others cut off again.
        tree = Tree(model)
        end, short_end = tree.insert(trunk)[-1], tree.insert(context)[-1]
        ends = tree.run([end, short_end])
        compared += [(ends[:1], second[:1]), (ends[1:], first[:1])]
        grown = [Branch(branch, 1, end) for branch in branches] + [Branch(short[1], 1, short_end)]
        wanted = [first[at_part + 1 :], second[1:], first[1 : self.few]]
        for log_probs, members in branch_passes(tree, grown, len(branches[0])):
            compared += [(log_probs[torch.tensor(rows).to(log_probs.device)], wanted[i]) for i, rows in members]
        return compared
