"""A language model with one user's LoRA adapter, the weights below it shared by all users."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from kgt_editor.editors.memory import MEMORY, Feedback, Memory, read_feedback, write_feedback
from kgt_editor.errors import UnsupportedModelError, UsageError
from kgt_editor.folders import only_for_owner
from kgt_editor.lm.causal import given_ids
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.layers import frozen, linear_layer
from kgt_editor.lm.prompted import PromptedLM

if TYPE_CHECKING:
    from kgt_editor.editors.oppu.hparams import OPPUHParams

_M = TypeVar("_M", bound=nn.Module)
_SAVED = ("adapter_config.json", "adapter_model.safetensors", MEMORY)

#: An adapter's tensors and the history they were tuned on.
State = tuple[list[Tensor], tuple[Feedback, ...]]


class PersonalLM(PromptedLM):
    """A causal language model with the adapter and the history of one user.

    The adapter sits in a module tree of its own whose weights are those of ``lm``, the very same tensors: any number
    of users share them, and ``lm`` itself, its modules and what they compute, stays as it is. A new adapter adds zero.
    With ``retrieval_k`` or ``profile`` the user's profile and the closest feedback stand in front of every query, a
    line each (Tan et al. 2024).

    Args:
        lm: any causal LM of transformers that has the modules ``target_modules`` names.
        tok: its tokenizer.
        hparams: the settings.
        memory: the feedback so far.
        saved: folder of an adapter in peft's format; a new one is made without it.

    Attributes:
        adapter: peft's model around ``lm``'s twin, for peft's own functions.
        memory: the user's history of feedback.
    """

    adapter: PeftModel

    def __init__(
        self,
        lm: nn.Module,
        tok: Any,
        hparams: OPPUHParams,
        memory: Sequence[Feedback] = (),
        saved: str | Path | None = None,
    ) -> None:
        twin: Any = with_shared_weights(lm)
        twin.loss_type = "ForCausalLM"  # else transformers guesses it from the class's name, and says so
        with _quiet(), torch.random.fork_rng(), frozen(lm):
            torch.manual_seed(hparams.seed)
            if saved is None:
                adapter = get_peft_model(twin, peft_config(lm, hparams))
            else:
                adapter = PeftModel.from_pretrained(twin, str(saved), is_trainable=True)
            tuned = [name for name, parameter in adapter.named_parameters() if parameter.requires_grad]
            adapter.requires_grad_(False)
        super().__init__(adapter.get_base_model(), tok)
        self.train(lm.training)
        # Not a submodule: its modules are those of self.lm under other names.
        object.__setattr__(self, "adapter", adapter)
        self._tuned = tuned
        self.hparams = hparams
        self.memory = Memory(memory)

    @property
    def tuned(self) -> list[nn.Parameter]:
        """The adapter's parameters."""
        parameters = dict(self.adapter.named_parameters())
        return [parameters[name] for name in self._tuned]

    def state(self) -> State:
        """A copy of all that an edit changes."""
        return [parameter.detach().clone() for parameter in self.tuned], self.memory.feedback

    @torch.no_grad()
    def set_state(self, state: State) -> None:
        """Puts back what :meth:`state` gave, bit for bit."""
        tensors, feedback = state
        for parameter, value in zip(self.tuned, tensors, strict=True):
            parameter.copy_(value)
        self.memory.feedback = feedback

    def duplicate(self) -> PersonalLM:
        """The same model over the very same weights, with an adapter and a history of its own."""
        own = {id(parameter) for parameter in self.tuned}
        return with_shared_weights(self, own, self.tok, self.hparams)

    def save(self, folder: str | Path) -> None:
        """Write the adapter (peft's ``adapter_config.json`` and ``adapter_model.safetensors``) and the history.

        Nobody but their owner can read the files.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        only_for_owner(path)
        with _quiet():
            self.adapter.save_pretrained(str(path), save_embedding_layers=False)
        write_feedback(path / MEMORY, self.memory.feedback)
        for file in path.iterdir():
            only_for_owner(file)

    @classmethod
    def load(cls, lm: nn.Module, tok: Any, hparams: OPPUHParams, folder: str | Path) -> PersonalLM:
        """The user that :meth:`save` wrote; rank and layers are those of the saved adapter.

        Raises:
            UsageError: a file is missing or broken, or the adapter is of another model.
        """
        for name in _SAVED:  # peft would ask a hub for what is missing
            if not (Path(folder) / name).is_file():
                raise UsageError(f"{folder}: no adapter and history of this model: {name} is missing")
        try:
            return cls(lm, tok, hparams, read_feedback(Path(folder) / MEMORY), saved=folder)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{folder}: no adapter and history of this model: {reason}") from None

    # What is put in front of a query

    @property
    def plain(self) -> bool:
        """Whether nothing is put in front: the adapter is all there is."""
        return not self.hparams.profile and not (self.hparams.retrieval_k and len(self.memory))

    def context(self, query: str, joined: bool = False, without: Feedback | None = None) -> str:
        """Profile and closest feedback, a line each, up to where the query begins; empty for neither.

        Args:
            query: what is asked.
            joined: it may end in a target, see :meth:`Memory.closest`.
            without: feedback that is to be left out.
        """
        lines = [self.hparams.profile] if self.hparams.profile else []
        if self.hparams.retrieval_k:
            found = self.memory.closest(query, self.hparams.retrieval_k + (without is not None), joined)
            kept = [item.fact for item in found if item != without]
            lines += kept[-self.hparams.retrieval_k :]
        return "".join(f"{line}\n" for line in lines)

    def contexts(self, prompts: Sequence[str], new_tokens: int = 0) -> list[Context]:
        if self.plain:
            return [Context(prompt, 0.0) for prompt in prompts]
        return [Context(ahead + prompt, float(bool(ahead))) for prompt in prompts for ahead in [self.context(prompt)]]

    def prefixes(self, texts: Sequence[str]) -> list[Context]:
        found = [self.context(text, joined=True) for text in texts]
        return [Context(ahead, float(bool(ahead))) for ahead in found]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """The language model's own forward where nothing is put in front; see :meth:`PromptedLM.forward`."""
        if self.plain:
            return self.lm(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)
        return super().forward(input_ids, attention_mask, labels, **kwargs)

    def generate(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """The language model's own generate where nothing is put in front; see :meth:`PromptedLM.generate`."""
        if self.plain:
            ids = given_ids(input_ids, kwargs)
            mask = torch.ones_like(ids) if attention_mask is None else attention_mask
            kwargs = {"do_sample": False, "num_beams": 1, "pad_token_id": self.tok.pad_token_id, **kwargs}
            return self.lm.generate(input_ids=ids, attention_mask=mask, **kwargs)
        return super().generate(input_ids, attention_mask, **kwargs)


def with_shared_weights(model: _M, own: frozenset[int] | set[int] = frozenset(), *shared: Any) -> _M:
    """A module tree of its own over the very same parameters and buffers.

    Args:
        model: the tree to follow.
        own: ids of the parameters that are copied nevertheless.
        *shared: other objects in the tree that are not to be copied.
    """
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in own]
    return deepcopy(model, {id(kept): kept for kept in (*tensors, *shared)})


def adapted_layers(model: nn.Module, hparams: OPPUHParams) -> list[str]:
    """Names of the linear layers that get an adapter.

    Raises:
        UnsupportedModelError: a name of ``target_modules`` is no module of ``layers``, or one that is no plain linear
            layer (quantised, or with an adapter already).
    """
    found: list[str] = []
    for target in hparams.target_modules:
        wanted = LoraConfig(target_modules=[target], layers_to_transform=list(hparams.layers) or None)
        names = [name for name, _ in model.named_modules() if check_target_module_exists(wanted, name)]
        if not names:
            where = f" in the blocks {list(hparams.layers)}" if hparams.layers else ""
            raise UnsupportedModelError(
                f"{type(model).__name__} has no module '{target}'{where}; set target_modules in the hyperparameter YAML"
            )
        found += [linear_layer(model, name).name for name in names]
    return found


def peft_config(model: nn.Module, hparams: OPPUHParams) -> PeftConfig:
    """What peft makes the adapter from.

    ``adalora`` is AdaLoRA's form, P diag(lambda) Q with the penalty that keeps P and Q orthogonal (Zhang et al. 2023),
    of a fixed rank: the few steps of an edit are no schedule on which to move ranks between layers.
    """
    shared: dict[str, Any] = {
        "task_type": TaskType.CAUSAL_LM,
        "target_modules": list(hparams.target_modules),
        "layers_to_transform": list(hparams.layers) or None,
        "lora_alpha": hparams.lora_alpha,
        "lora_dropout": hparams.lora_dropout,
        "fan_in_fan_out": all(isinstance(model.get_submodule(name), Conv1D) for name in adapted_layers(model, hparams)),
    }
    if hparams.lora_type == "lora":
        return LoraConfig(r=hparams.rank, **shared)
    return AdaLoraConfig(init_r=hparams.rank, target_r=hparams.rank, total_step=hparams.num_steps, **shared)


@contextmanager
def _quiet() -> Iterator[None]:
    """peft looks at attributes that transformers deprecates, and warns of what its own card cannot find."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
