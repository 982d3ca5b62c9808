"""What hyperparameters that are derived for a model depend on: its family's names of modules and its depth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Modules:
    """Names of a family's modules, ``{}`` for the number of the block."""

    block: str
    mlp: tuple[str, ...]
    norm: str
    head: str

    def down(self) -> str:
        """The MLP's down-projection."""
        return f"{self.block}.{self.mlp[-1]}"

    def weights(self, blocks: range, layers: tuple[str, ...]) -> list[str]:
        """Weights of some layers of each of some blocks."""
        return [f"{self.block.format(number)}.{layer}.weight" for number in blocks for layer in layers]


_GPT2 = Modules("transformer.h.{}", ("mlp.c_fc", "mlp.c_proj"), "transformer.ln_f", "transformer.wte")
_LLAMA = Modules("model.layers.{}", ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), "model.norm", "lm_head")


@dataclass(frozen=True)
class Architecture:
    """What the defaults depend on.

    Attributes:
        family: ``model_type`` of the configuration.
        blocks: how many it has.
    """

    family: str
    blocks: int

    @property
    def is_gpt2(self) -> bool:
        return self.family == "gpt2"

    @property
    def modules(self) -> Modules:
        return _GPT2 if self.is_gpt2 else _LLAMA

    def at_depth(self, first: int, last: int, of: int) -> range:
        """The blocks as deep in this model as ``first`` to ``last`` are in one of ``of`` blocks."""
        return range(self.blocks * first // of, self.blocks * last // of + 1)

    def __str__(self) -> str:
        return f"{self.family}, {self.blocks} blocks"
