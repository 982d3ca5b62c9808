"""Linear layers by name, whichever way their weight is stored, and a model held still while one looks inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from kgt_editor.errors import UnsupportedModelError

# config.model_type of the architectures whose decoder blocks add the MLP's output to the residual stream as it is.
FAMILIES = ("gpt2", "llama", "mistral", "qwen2")


def get_module(model: nn.Module, name: str) -> nn.Module:
    """The submodule called ``name`` (``transformer.h.0.mlp``).

    Raises:
        UnsupportedModelError: the model has none of that name.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no module '{name}'; set the module names in the hyperparameter YAML"
        ) from None


@dataclass(frozen=True)
class LinearLayer:
    """One linear map y = W x + b.

    GPT-2's ``Conv1D`` keeps W transposed, ``nn.Linear`` does not; here W is always (out, in).

    Attributes:
        name: the module's name in the model.
        module: the module itself.
    """

    name: str
    module: nn.Module

    @property
    def parameter(self) -> str:
        """Name of the weight in ``model.named_parameters()``."""
        return f"{self.name}.weight"

    @property
    def weight(self) -> nn.Parameter:
        """The weight as it is stored."""
        weight: nn.Parameter = self.module.weight  # type: ignore[assignment]
        return weight

    @property
    def transposed(self) -> bool:
        """Whether the weight is stored as (in, out)."""
        return isinstance(self.module, Conv1D)

    @property
    def matrix(self) -> Tensor:
        """W as a view of shape (out, in)."""
        return self.weight.T if self.transposed else self.weight

    def stored(self, matrix: Tensor) -> Tensor:
        """A (out, in) matrix in the weight's own layout."""
        return matrix.T if self.transposed else matrix

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        out, features = self.matrix.shape
        return out, features


def linear_layer(model: nn.Module, name: str) -> LinearLayer:
    """The linear layer called ``name``; ``name`` may end in ``.weight``, as EasyEdit's ``inner_params`` do.

    Raises:
        UnsupportedModelError: there is no such module, or it is no plain fp32/fp16/bf16 Linear or Conv1D
            (quantised and LoRA layers are not).
    """
    layer = LinearLayer(name.removesuffix(".weight"), get_module(model, name.removesuffix(".weight")))
    # Subclasses are refused on purpose: a quantised or adapter-wrapped Linear is one, and its weight is not W.
    if type(layer.module) not in (nn.Linear, Conv1D):
        raise UnsupportedModelError(
            f"'{layer.name}' is a {type(layer.module).__name__}, not a plain Linear or Conv1D layer; "
            "load the model unquantised and without adapters"
        )
    if not layer.weight.is_floating_point():
        raise UnsupportedModelError(f"the weight of '{layer.name}' is {layer.weight.dtype}; load the model unquantised")
    return layer


def is_quantised(model: nn.Module) -> bool:
    """Whether transformers loaded the model with quantised weights."""
    config = getattr(model, "config", None)
    return bool(getattr(model, "is_quantized", False)) or getattr(config, "quantization_config", None) is not None


def check_in_one_place(model: nn.Module) -> None:
    """Makes sure that all weights lie on one device, where they can be written and trained.

    Raises:
        UnsupportedModelError: they are offloaded, or spread over several devices.
    """
    devices = {parameter.device for parameter in model.parameters()}
    remedy = "load it on one device (without --device-map)"
    if any(device.type == "meta" for device in devices):
        raise UnsupportedModelError(f"the model's weights are offloaded and cannot be edited; {remedy}")
    if len(devices) > 1 or len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
        raise UnsupportedModelError(f"the model is spread over several devices and cannot be edited; {remedy}")


def check_family(model: nn.Module) -> None:
    """Makes sure that a weight editor can work on ``model``.

    Raises:
        UnsupportedModelError: the weights are quantised, offloaded or spread, or the architecture is none of
            ``FAMILIES``.
    """
    if is_quantised(model):
        raise UnsupportedModelError("the model's weights are quantised and cannot be edited; load it in fp32 or fp16")
    check_in_one_place(model)
    family = getattr(getattr(model, "config", None), "model_type", None)
    if family not in FAMILIES or type(model).__name__.startswith("Peft"):
        raise UnsupportedModelError(
            f"{type(model).__name__} (model type {family!r}) is an unknown architecture; known: {', '.join(FAMILIES)}"
        )


def plain_model(model: Any) -> Any:
    """The model of transformers inside PEFT's adapters and ``torch.compile``: to look at, not to compute with."""
    while True:
        modules = getattr(model, "__dict__", {}).get("_modules", {})  # a failing getattr of a module is slow
        if "_orig_mod" in modules:  # torch.compile's OptimizedModule
            model = modules["_orig_mod"]
        elif "base_model" in modules and hasattr(model, "get_base_model"):  # PeftModel
            model = model.get_base_model()
        else:
            return model


def text_config(model: Any) -> Any:
    """The configuration of the part that reads text, of a multimodal model too; None of a model without one."""
    config: Any = getattr(plain_model(model), "config", None)
    if getattr(type(config), "sub_configs", None) or "text_config" in getattr(config, "__dict__", {}):
        return config.get_text_config(decoder=True)
    return config


def device_of(model: nn.Module) -> torch.device:
    """Where the model's inputs belong; of a model that accelerate has spread out or offloaded too."""
    plain = plain_model(model)
    embeddings = plain.get_input_embeddings() if isinstance(plain, PreTrainedModel) else None
    # Offloaded weights lie on 'meta' between passes; the hook knows where they are brought.
    device = getattr(getattr(embeddings, "_hf_hook", None), "execution_device", None)
    return next(model.parameters()).device if device is None else torch.device(device)


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Holds ``model`` in evaluation mode with no parameter asking for gradients; puts back what was."""
    modes = {module: module.training for module in model.modules()}
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield model
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, training in modes.items():
            module.training = training
