"""How the testbed models are trained: small-model practice, see ``train.py``."""

from __future__ import annotations

from dataclasses import dataclass, replace

_MANY = (12, 10, 20, 20, 38)  # ``counts`` of contexts that are mostly of six and eight facts


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a training run on one machine.

    ``rows`` is the number of rows of ``CONTEXT`` tokens in a step, over all processes; the number of processes
    changes speed and, through the order of sums, the last bits, not the data. ``ends_at`` ends a stage after so many
    steps with its schedule, that of ``steps``, unfinished.
    """

    arch: str = "gpt2"
    width: int = 192
    layers: int = 5
    heads: int = 6
    steps: int = 7000
    rows: int = 8
    seed: int = 0
    muon_lr: float = 0.02
    adam_lr: float = 4e-3
    weight_decay: float = 0.1
    warm_up: float = 0.04
    early_layers: int = 2
    first_shares: tuple[float, ...] = (0.34, 0.28, 0.22, 0.08, 0.08)
    later_shares: tuple[float, ...] = (0.26, 0.30, 0.33, 0.055, 0.055)
    later_from: float = 0.4
    first_crowding: float = 0.3
    later_crowding: float = 0.6
    prefix_share: float = 0.3
    counts: tuple[float, ...] = (40, 16, 20, 9, 15)
    prompts_share: float = 0.0
    fresh_prompts: bool = False
    vocabulary: int = 4096
    ends_at: int | None = None
    front_share: float = 0.2
    most_in_front: int = 1

    @property
    def last_step(self) -> int:
        """How many steps are made."""
        return self.steps if self.ends_at is None else self.ends_at

    def shares(self, step: int) -> dict[str, float]:
        """The mixture of example kinds at a step."""
        values = self.first_shares if step < self.later_from * self.steps else self.later_shares
        return dict(zip(("plain", "relevant", "irrelevant", "retrieve", "extract"), values, strict=True))

    def crowding(self, step: int) -> float:
        """Share of contexts with several facts at a step."""
        return self.first_crowding if step < self.later_from * self.steps else self.later_crowding

    def rate(self, step: int) -> float:
        """Learning-rate factor: linear warm-up, constant to half of the run, then linear to 2 %."""
        if step < self.warm_up * self.steps:
            return (step + 1) / (self.warm_up * self.steps)
        half = self.steps / 2
        return 1.0 if step < half else 1.0 - 0.98 * (step - half) / half


def stages(arch: str, size: str = "small", reading: bool = True) -> list[Recipe]:
    """The recipes of a model's training, each beginning with the weights that the one before left.

    The first stage teaches the facts and the templates. After it a model knows the facts of subjects that no
    instruction example names, and loses them where other facts stand in front. So the second shows plain sentences
    behind several others, besides crowded contexts and T_prefix more often, with other draws and lower learning rates.
    Without ``reading``, CounterFact's prompts are not taught.
    """
    if size == "large":
        return _large(arch)
    first = Recipe(arch=arch, steps=6500, prompts_share=0.4)
    second = replace(
        _polish(first, 1, 3500, 0.4),
        later_shares=(0.28, 0.30, 0.34, 0.04, 0.04),
        later_crowding=0.85,
        counts=_MANY,
        prefix_share=0.5,
        prompts_share=0.3,
        front_share=0.6,
        most_in_front=4,
    )
    return [recipe if reading else replace(recipe, prompts_share=0.0) for recipe in (first, second)]


def _polish(first: Recipe, seed: int, steps: int, share: float) -> Recipe:
    """A later stage at a share of the first one's learning rates."""
    return replace(
        first,
        steps=steps,
        seed=seed,
        muon_lr=first.muon_lr * share,
        adam_lr=first.adam_lr * share,
        later_from=0.0,
        later_shares=(0.20, 0.34, 0.36, 0.05, 0.05),
        later_crowding=0.75,
        prefix_share=0.45,
        counts=(20, 12, 20, 16, 32),
    )


def _large(arch: str) -> list[Recipe]:
    """First mostly the facts, ten times the small models' at half the times each; then contexts, crowded ones too.

    The blocks are the small models': 26,000 facts are 120,000 bits of objects within their relations, for two million
    weights. The vocabulary grows with the names. Telling 24,000 subjects apart in a context comes slowly: the first
    stage gives way to the second as soon as it holds most of the facts.
    """
    first = Recipe(
        arch=arch,
        steps=10_000,
        rows=16,
        first_shares=(0.74, 0.10, 0.08, 0.04, 0.04),
        later_shares=(0.66, 0.13, 0.13, 0.04, 0.04),
        prompts_share=0.45,
        fresh_prompts=True,
        vocabulary=8192,
    )
    last = replace(
        _polish(first, 1, 4800, 1 / 2),
        later_shares=(0.36, 0.27, 0.25, 0.05, 0.07),
        later_crowding=0.7,
        front_share=0.6,
        most_in_front=4,
    )
    return [replace(first, ends_at=7500), last]
