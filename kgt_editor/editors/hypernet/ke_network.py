"""KnowledgeEditor's network (De Cao, Aziz and Titov 2021, "Editing Factual Knowledge in Language Models", section 4).

A bidirectional LSTM reads the edit; from what it read come, for every edited weight matrix W of shape (out, in), four
vectors and a number, and from those its change:

    dW = -rate * sigmoid(eta) * (A * G + B),   A = softmax(alpha) gamma^T,   B = softmax(beta) delta^T

with G the gradient of the edit's loss, ``*`` between matrices elementwise, and alpha, beta of length out and gamma,
delta of length in. G is a sum of outer products, one a token; gated by the rank-one A it is one still, and B is one
more. So no matrix is held until it is written.

Three things are scaled so that one network fits matrices of any size: G to a root mean square of one, the softmaxes
to a mean of one, and the rate to the root mean square of W. At first, A is one and B is zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from kgt_editor.editors.factors import Factors, gradient_factors
from kgt_editor.editors.hypernet.training import Hypernetwork
from kgt_editor.editors.targets import TargetBatch
from kgt_editor.lm.layers import linear_layer


class KENetwork(Hypernetwork):
    """Maps an edit's text and gradients to the factors of its weight changes.

    Args:
        shapes: layer name -> (out, in).
        scales: layer name -> root mean square of its weight.
        width: width of the model's token embeddings.
        lstm_dim: width of the LSTM's state, in each direction.
        hidden_dim: width of the layer between the LSTM and the vectors.
        edit_lr: what the learned rates of the edits start from, as a share of ``scales``.
        seed: seed of the initial weights.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        scales: Mapping[str, float],
        width: int,
        lstm_dim: int,
        hidden_dim: int,
        edit_lr: float,
        seed: int,
    ) -> None:
        super().__init__(shapes, edit_lr)
        # One product for all matrices: alpha, beta, gamma, delta and eta of the first, then of the second, ...
        self._sizes = [size for out, features in self.shapes.values() for size in (out, out, features, features, 1)]
        # These modules draw their first values from the global generator, which is the caller's.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lstm = nn.LSTM(width, lstm_dim, batch_first=True, bidirectional=True)
            self.hidden = nn.Linear(2 * lstm_dim, hidden_dim)
            self.separators = nn.Parameter(torch.randn(2, width))
            self.vectors = nn.Linear(hidden_dim, sum(self._sizes))
        nn.init.zeros_(self.vectors.weight)
        nn.init.zeros_(self.vectors.bias)
        for gamma in self.vectors.bias.detach().split(self._sizes)[2::5]:
            gamma.fill_(1.0)
        self.register_buffer("scales", torch.tensor([scales[name] for name in self.shapes]))

    def edits(self, model: nn.Module, batch: TargetBatch) -> dict[str, Factors]:
        factors, logits = gradient_factors(model, batch, list(self.shapes))
        return self(self.condition(*self.read(model, batch, logits)), factors)

    def read(self, model: nn.Module, batch: TargetBatch, logits: Tensor) -> tuple[Tensor, list[int]]:
        """Embeds "prompt, old answer -> new answer" with the model's own embeddings, which are not trained.

        The old answer is the first token of the one the model would give, read off the logits there are; between the
        parts stand two learned vectors.

        Args:
            model: the model that is edited.
            batch: the edits.
            logits: the model's at the batch's target positions.

        Returns:
            Embeddings (rows, longest, width), and the length of every row.
        """
        embedding = model.get_input_embeddings()  # type: ignore[operator]
        starts = torch.searchsorted(batch.rows, torch.arange(len(batch.ids), device=batch.rows.device))
        prompts = (batch.columns[starts] + 1).tolist()
        old = logits[starts].argmax(-1)
        new = batch.wanted.split(batch.rows.bincount().tolist())
        texts = [torch.cat([batch.ids[row, :length], old[row, None], new[row]]) for row, length in enumerate(prompts)]
        with torch.no_grad():
            embedded = embedding(torch.cat(texts)).float()
            # Embeddings of one model are ten times as large as another's.
            embedded = functional.layer_norm(embedded, embedded.shape[-1:])
        rows = [
            torch.cat(
                [row[:length], self.separators[:1], row[length : length + 1], self.separators[1:], row[length + 1 :]]
            )
            for length, row in zip(prompts, embedded.split([len(text) for text in texts]), strict=True)
        ]
        return pad_sequence(rows, batch_first=True), [len(row) for row in rows]

    def condition(self, texts: Tensor, lengths: list[int]) -> Tensor:
        """What was read of every text, (rows, hidden_dim), from embeddings (rows, longest, width)."""
        packed = pack_padded_sequence(texts, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed)  # last: (directions, rows, lstm_dim)
        hidden: Tensor = self.hidden(last.transpose(0, 1).flatten(1)).tanh()
        return hidden

    def forward(self, condition: Tensor, factors: Mapping[str, Factors]) -> dict[str, Factors]:
        """Factors to *add* to the weights, one token more than the gradients'; see the module's equation."""
        predicted = iter(self.vectors(condition).split(self._sizes, dim=-1))
        found = {}
        for number, (name, (out, features)) in enumerate(self.shapes.items()):
            alpha, beta, gamma, delta, eta = (next(predicted)[:, None] for _ in range(5))
            value = factors[name]
            rate = -self.edit_lrs[number] * self.get_buffer("scales")[number] * eta.sigmoid()
            outputs = value.outputs / root_mean_square(value, out * features)[:, None, None]
            found[name] = Factors(
                inputs=torch.cat([value.inputs * gamma, delta], dim=1),
                outputs=rate * out * torch.cat([outputs * alpha.softmax(-1), beta.softmax(-1)], dim=1),
            )
        return found


def root_mean_square(factors: Factors, entries: int) -> Tensor:
    """That of every row's matrix of so many ``entries``, (rows,), from the factors' products alone; never zero."""
    inputs = torch.bmm(factors.inputs, factors.inputs.transpose(1, 2))
    outputs = torch.bmm(factors.outputs, factors.outputs.transpose(1, 2))
    return ((inputs * outputs).sum((1, 2)) / entries).clamp_min(0).sqrt().clamp_min(1e-12)


def weight_scales(model: nn.Module, names: list[str]) -> dict[str, float]:
    """Root mean square of every named layer's weight."""
    return {name: linear_layer(model, name).weight.detach().float().square().mean().sqrt().item() for name in names}
