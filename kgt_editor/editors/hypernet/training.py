"""How a hypernetwork that edits is trained: to make the edit, to carry over to other wordings, to leave the rest alone.

MEND's network (Mitchell et al. 2022, section 3.2) and KnowledgeEditor's (De Cao et al. 2021, section 4) share the
batches, both losses and the loop; how the losses are weighed is each editor's own.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kgt_editor.data.record import Record
from kgt_editor.editors.base import Progress
from kgt_editor.editors.cache import Unfinished
from kgt_editor.editors.factors import Factors, edited_logits, target_logits
from kgt_editor.editors.targets import TargetBatch, encode_targets
from kgt_editor.errors import NumericalError, UsageError

_NORMALISATION_RECORDS = 256
_KEEP_EVERY = 60.0  # seconds of training that a killed process loses, at most


class TrainingHParams(Protocol):
    """What sampling and the training loop read off an editor's hyperparameters."""

    @property
    def alg_name(self) -> str: ...

    seed: int
    lr: float
    lr_lr: float
    batch_size: int
    accumulate_bs: int
    max_iters: int
    cedit: float
    grad_clip: float
    lr_decay_from: float
    locality_prompts: int
    neighbour_share: float


class Hypernetwork(nn.Module):
    """A network that makes edits.

    Attributes:
        shapes: edited layer -> (out, in).
        edit_lrs: how far an edit goes, a number a layer, learned beside the rest.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], edit_lr: float) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.edit_lrs = nn.Parameter(torch.full((len(self.shapes),), edit_lr))

    def edits(self, model: nn.Module, batch: TargetBatch) -> dict[str, Factors]:
        """What every edit of ``batch`` adds to the weights, by layer name: learning rate and sign are in it."""
        raise NotImplementedError

    def parameter_groups(self, lr: float, lr_lr: float) -> list[dict[str, Any]]:
        """Adam's groups: the edits' own learning rates are learned at another rate than the rest."""
        rest = [parameter for parameter in self.parameters() if parameter is not self.edit_lrs]
        return [{"params": rest, "lr": lr}, {"params": [self.edit_lrs], "lr": lr_lr}]


@dataclass(frozen=True)
class Batch:
    """Some edits and the prompts that judge them.

    Attributes:
        edits: edit prompts with their new targets, a row an edit.
        kept: prompts that must stay as they were.
        judged: prompts that must now give the new target, then all of ``kept``.
        owner: which edit a judged row belongs to.
    """

    edits: TargetBatch
    kept: TargetBatch
    judged: TargetBatch
    owner: Tensor


class Sampler:
    """Draws training batches from records, the same for the same seed.

    A row's edit prompt is one of the record's wordings and another one judges it. Half of the new targets are drawn
    anew from the relation's objects. Of the prompts that must not change, ``neighbour_share`` ask for the edited
    fact's relation (half of them, where the record has neighbours, for its true object too), which random prompts
    alone would leave to be overwritten; the rest are any other records' own.
    """

    def __init__(self, model: nn.Module, tok: Any, records: Sequence[Record], hparams: TrainingHParams) -> None:
        # What an edit must leave alone is judged by answers from before it.
        records = [record for record in records if record.target_true]
        if len({record.subject for record in records}) < 2:
            raise UsageError(
                f"{hparams.alg_name} trains on records of several subjects with a true answer; {len(records)} such "
                "records are not enough"
            )
        self._model, self._tok = model, tok
        self._records = records
        self._hparams = hparams
        self._random = random.Random(hparams.seed)
        self._objects: dict[str, list[str]] = defaultdict(list)
        self._of_relation: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            self._objects[record.relation_id] += [record.target_true, record.target_new]
            self._of_relation[record.relation_id].append(record)

    @property
    def state(self) -> Any:
        """What the next draws depend on; may be set."""
        return self._random.getstate()

    @state.setter
    def state(self, state: Any) -> None:
        version, numbers, gauss = state
        self._random.setstate((version, tuple(numbers), gauss))

    def draw(self) -> Batch:
        """The next batch."""
        edits: list[tuple[str, str]] = []
        wanted: list[tuple[str, str]] = []
        kept: list[tuple[str, str]] = []
        for record in self._random.choices(self._records, k=self._hparams.batch_size):
            target = record.target_new
            if self._random.random() < 0.5:
                others = [name for name in self._objects[record.relation_id] if name != record.target_true]
                target = self._random.choice(others or [target])
            wordings = [record.query, *record.paraphrase_prompts]
            self._random.shuffle(wordings)
            edits.append((wordings[0], target))
            wanted += [(wording, target) for wording in (wordings * 2)[:2]]
            kept += [self._unrelated(record) for _ in range(self._hparams.locality_prompts)]
        owners = [i for i in range(len(edits)) for _ in range(2)]
        owners += [i for i in range(len(edits)) for _ in range(self._hparams.locality_prompts)]
        encoded = self._encode(edits)
        owner = torch.tensor(owners, device=encoded.ids.device)
        return Batch(encoded, self._encode(kept), self._encode(wanted + kept), owner)

    def _unrelated(self, record: Record) -> tuple[str, str]:
        pool = self._records
        if self._random.random() < self._hparams.neighbour_share:
            if record.neighbourhood_prompts and self._random.random() < 0.5:
                return self._random.choice(record.neighbourhood_prompts), record.target_true
            if any(other.subject != record.subject for other in self._of_relation[record.relation_id]):
                pool = self._of_relation[record.relation_id]
        other = self._random.choice(pool)
        while other.subject == record.subject:
            other = self._random.choice(pool)
        return self._random.choice([other.query, *other.paraphrase_prompts]), other.target_true

    def samples(self) -> Iterator[TargetBatch]:
        """Edits to fit the normalisation on."""
        chosen = self._random.sample(self._records, min(_NORMALISATION_RECORDS, len(self._records)))
        size = self._hparams.batch_size
        for start in range(0, len(chosen), size):
            yield self._encode([(record.query, record.target_new) for record in chosen[start : start + size]])

    def _encode(self, pairs: list[tuple[str, str]]) -> TargetBatch:
        return encode_targets(self._model, self._tok, [prompt for prompt, _ in pairs], [target for _, target in pairs])


def batch_losses(model: nn.Module, network: Hypernetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    """Edit loss and locality loss (nats) of a batch of separate edits, both scalars.

    The first is the negative log-likelihood of the new target on the edit prompt and another wording of it; the
    second the KL divergence of the edited from the unedited model's predictions along the other prompts' answers.
    """
    with torch.no_grad():
        unedited = target_logits(model, batch.kept).float().log_softmax(-1)
    edits = network.edits(model, batch.edits)
    logits = edited_logits(model, batch.judged, {name: value.select(batch.owner) for name, value in edits.items()})
    wanted = len(batch.judged.ids) - len(batch.kept.ids)
    edit = batch.judged.row_losses(logits)[:wanted].mean()
    predicted = logits[batch.judged.rows >= wanted].float().log_softmax(-1)
    divergence = (unedited.exp() * (unedited - predicted)).sum(-1)
    return edit, (divergence * batch.kept.weights).sum() / len(batch.kept.ids)


@dataclass
class Constraint:
    """Keeps a quantity below a margin by the method of multipliers (De Cao et al. 2021, section 4).

    Training minimises the loss plus ``multiplier * (quantity - margin)`` and meanwhile climbs along the multiplier,
    which never falls below zero: it grows while the margin is overstepped and shrinks while it is kept. With a rate of
    zero it is a weight that stays.

    Attributes:
        multiplier: weight of the constraint now.
        margin: what the quantity may be.
        rate: step of the multiplier.
    """

    multiplier: float
    margin: float = 0.0
    rate: float = 0.0

    def penalty(self, quantity: Tensor) -> Tensor:
        """The constraint's share of the loss; moves the multiplier one step."""
        share = self.multiplier * (quantity - self.margin)
        if self.rate:
            self.multiplier = max(0.0, self.multiplier + self.rate * (quantity.item() - self.margin))
        return share


def fit(
    model: nn.Module,
    network: Hypernetwork,
    sampler: Sampler,
    locality: Constraint,
    hparams: TrainingHParams,
    progress: Progress | None,
    unfinished: Unfinished | None = None,
) -> None:
    """Trains ``network`` in place for ``hparams.max_iters`` iterations.

    Args:
        model: what is edited, held still.
        network: what is trained.
        sampler: draws the batches.
        locality: how much the locality loss counts.
        hparams: the loop's lengths and limits.
        progress: told of every iteration.
        unfinished: where the training is kept while it goes on, and gone on from.

    Raises:
        NumericalError: the loss is NaN or infinite.
    """
    optimizer = torch.optim.Adam(network.parameter_groups(hparams.lr, hparams.lr_lr))
    last = hparams.max_iters // hparams.accumulate_bs
    constant = hparams.lr_decay_from * last
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1.0 if step <= constant else max(0.0, (last - step) / (last - constant))
    )
    sitting = _Sitting({"network": network, "optimizer": optimizer, "schedule": schedule}, sampler, locality)
    state = unfinished.load() if unfinished else None
    done, kept_at = sitting.restore(state) if state else 0, time.monotonic()
    for iteration in range(done + 1, hparams.max_iters + 1):
        edit, divergence = batch_losses(model, network, sampler.draw())
        value = hparams.cedit * edit + locality.penalty(divergence)
        if not bool(value.isfinite()):
            raise NumericalError(
                f"{hparams.alg_name} training, iteration {iteration}: the loss is {value.item()}; lower lr or "
                "edit_lr, or load the model in float32"
            )
        (value / hparams.accumulate_bs).backward()
        if iteration % hparams.accumulate_bs == 0:
            nn.utils.clip_grad_norm_(network.parameters(), hparams.grad_clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if unfinished and time.monotonic() - kept_at > _KEEP_EVERY:
                unfinished.save(sitting.state(iteration))
                kept_at = time.monotonic()
        if progress is not None:
            progress(f"{hparams.alg_name} hypernetwork", iteration, hparams.max_iters)


class _Sitting:
    """What a training depends on besides its settings, as one value."""

    def __init__(self, parts: Mapping[str, Any], sampler: Sampler, locality: Constraint) -> None:
        self._parts, self._sampler, self._locality = parts, sampler, locality

    def state(self, iteration: int) -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in self._parts.items()}
        more = {"iteration": iteration, "random": self._sampler.state, "multiplier": self._locality.multiplier}
        return {**states, **more}

    def restore(self, state: Mapping[str, Any]) -> int:
        """The iterations that were done."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self._sampler.state, self._locality.multiplier = state["random"], state["multiplier"]
        return int(state["iteration"])
