"""Hyperparameters for a model that has no YAML, derived from its architecture.

They are the published values that the YAMLs of GPT-2 and Llama hold (their comments name the sources), with the blocks
that are edited at the same depth. Nothing here was tried on the model in question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as LORA_MODULES

from kgt_editor.editors.architecture import Architecture
from kgt_editor.errors import UnsupportedModelError
from kgt_editor.kgt.hparams import AS_PRINTED
from kgt_editor.lm.layers import FAMILIES
from kgt_editor.lm.loading import model_config

Values = dict[str, Any]


def _rome(model: Architecture) -> Values:
    modules = model.modules
    return {
        # Block 17 of GPT-2 XL's 48 (Meng et al. 2022), 5 of Llama's 32.
        "layers": [model.blocks * 17 // 48 if model.is_gpt2 else model.blocks * 5 // 32],
        "v_num_grad_steps": 20 if model.is_gpt2 else 25,
        "v_lr": 0.5,
        "v_loss_layer": model.blocks - 1,
        "v_weight_decay": 0.5 if model.is_gpt2 else 1e-3,
        "clamp_norm_factor": 4,
        "kl_factor": 0.0625,
        "context_template_length_params": [[5, 10], [10, 10]],
        "mom2_adjustment": True,
        "mom2_dataset": "training",
        "rewrite_module_tmp": modules.down(),
        "layer_module_tmp": modules.block,
        "ln_f_module": modules.norm,
        "lm_head_module": modules.head,
    }


def _spread(model: Architecture) -> Values:
    """What MEMIT and AlphaEdit share."""
    # Blocks 13 to 17 of GPT-2 XL's 48 (Meng et al. 2023), 4 to 8 of Llama's 32.
    blocks = model.at_depth(13, 17, 48) if model.is_gpt2 else model.at_depth(4, 8, 32)
    return {**_rome(model), "layers": list(blocks), "context_template_length_params": [[10, 5]]}


def _memit(model: Architecture) -> Values:
    own = {"clamp_norm_factor": 0.75, "mom2_update_weight": 20_000.0}
    return {**_spread(model), **(own if model.is_gpt2 else {"mom2_update_weight": 15_000.0})}


def _alphaedit(model: Architecture) -> Values:
    own = {"L2": 10.0} if model.is_gpt2 else {"L2": 1.0, "v_lr": 0.1, "v_weight_decay": 0.5}
    return {**_spread(model), "clamp_norm_factor": 0.75, "nullspace_threshold": 2e-2, **own}


def _ultraedit(model: Architecture) -> Values:
    # Blocks 18 to 26 of 28: the down-projections of GPT-J, gate and up-projections of Qwen2.5-7B.
    modules, blocks = model.modules, model.at_depth(18, 26, 28)
    return {"inner_params": modules.weights(blocks, modules.mlp[-1:] if model.is_gpt2 else modules.mlp[:2]), "lr": 1e-6}


def _hypernetwork(model: Architecture) -> Values:
    return {
        "inner_params": model.modules.weights(range(max(0, model.blocks - 3), model.blocks), model.modules.mlp),
        "cedit": 0.1,
        "cloc": 1.0,
        "batch_size": 1,
        "accumulate_bs": 10,
        "max_iters": 100_000,
        "seed": 42,
    }


def _mend(model: Architecture) -> Values:
    return {**_hypernetwork(model), "lr": 1e-6, "edit_lr": 1e-4, "lr_lr": 1e-4, "rank": 1920}


def _ke(model: Architecture) -> Values:
    return {**_hypernetwork(model), "lr": 1e-5, "edit_lr": 1e-2, "lr_lr": 1e-3}


def _ft(model: Architecture) -> Values:
    return {
        # The first block of GPT-2 (Meng et al. 2022), 21 of Llama's 32.
        "layers": [0 if model.is_gpt2 else model.blocks * 21 // 32],
        "num_steps": 25,
        "batch_size": 3 if model.is_gpt2 else 1,
        "max_length": 40,
        "lr": 5e-4,
        "norm_constraint": 5e-4,
        "rewrite_module_tmp": model.modules.down(),
    }


def _locft(model: Architecture) -> Values:
    # The paper tunes a down-projection found for each model by its own search; where none was made, FT's block is
    # taken. Adam's rate is FT's; passes, batch and no constraint are the paper's way.
    values = _ft(model)
    return {**values, "num_steps": 25, "batch_size": 8, "norm_constraint": None}


def _kn(model: Architecture) -> Values:
    return {
        "refine": True,
        "lambda_new": 8.0,
        "context_prefixes": [
            "Yesterday it rained.",
            "In the morning the news came.",
            "They met again in spring.",
            "It was a long day.",
        ],
    }


def _oppu(model: Architecture) -> Values:
    if model.family not in LORA_MODULES:
        raise UnsupportedModelError(f"peft does not say which layers of {model.family!r} get an adapter")
    return {
        "num_steps": 30 if model.is_gpt2 else 70,
        "batch_size": 16,
        "lr": 5e-3,
        "weight_decay": 0.01,
        "target_modules": LORA_MODULES[model.family],
        "rank": 8,
        "lora_alpha": 8,
        "lora_dropout": 0.05,
        "stop_loss": 0.01,
    }


def _icl(model: Architecture) -> Values:
    # Facts are read as KGT reads them by default, so that what differs is which facts are read.
    return {"fact_mark": "{fact}.", "answer_tokens": 32, "reading": "repeat", "contrast": 0.5}


def _kgt(model: Architecture) -> Values:
    # As calibration chose it for SmolLM2-135M: the class's .05 is for the other guard, P(r | T_retrieve).
    return {"retrieval_min": 0.01}


_EDITORS: dict[str, Callable[[Architecture], Values]] = {
    "kgt": _kgt,
    "rome": _rome,
    "memit": _memit,
    "alphaedit": _alphaedit,
    "ultraedit": _ultraedit,
    "mend": _mend,
    "ke": _ke,
    "ft": _ft,
    "locft": _locft,
    "kn": _kn,
    "oppu": _oppu,
    "icl": _icl,
}
# These write to weights of modules whose names must be known.
_NEED_FAMILY = ("rome", "memit", "alphaedit", "ultraedit", "mend", "ke", "ft", "locft", "kn")
_TRAINED = ("mend", "ke")

#: What a preset changes in its editor's values.
PRESETS: dict[str, Values] = {
    "kgt:paper": {
        "optimizer": "algorithm1",
        "stop": "loss",
        "K": 5,
        "relation_source": "generate",
        "retrieval_min": 0.0,
        **AS_PRINTED,
    },
    "kgt:user": {"relation_source": "user"},
    "icl:bm25": {"retrieval": "bm25"},
    "icl:mello": {"retrieval": "steps"},
    "rome:no-covariance": {"mom2_adjustment": False},
    "ft:m": {"objective_optimization": "target_new", "norm_constraint": None},
    "kn:unfiltered": {"shared_share": None},
    "mend:norm-edit": {"norm_edit": True},
    "mend:random-locality": {"neighbour_share": 0.0},
    "ke:random-locality": {"neighbour_share": 0.0},
}


@dataclass(frozen=True)
class Derived:
    """Hyperparameters that no file holds.

    Attributes:
        values: by name; what is not there has the default of the editor's class.
        architecture: what they were derived from, as ``llama, 30 blocks``.
        note: what somebody who takes them should know; empty where that is nothing.
    """

    values: Values
    architecture: str
    note: str = ""


def covers(name: str) -> bool:
    """Whether an editor, which may carry a preset, has defaults here."""
    return name in PRESETS if ":" in name else name in _EDITORS


def derive(name: str, model_name: str) -> Derived:
    """An editor's hyperparameters for a model, from its configuration alone.

    Args:
        name: one that :func:`covers`.
        model_name: as :func:`kgt_editor.lm.loading.load_model` takes it.

    Raises:
        UnsupportedModelError: the editor does not know the architecture.
        UsageError: the model cannot be had.
    """
    base = name.partition(":")[0]
    config = model_config(model_name)
    model = Architecture(config.model_type, getattr(config.get_text_config(), "num_hidden_layers", None) or 0)
    try:
        if base in _NEED_FAMILY and model.family not in FAMILIES:
            raise UnsupportedModelError(f"{model.family!r} is an unknown architecture; known: {', '.join(FAMILIES)}")
        values = {**_EDITORS[base](model), **PRESETS.get(name, {})}
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"editor '{name}' cannot edit '{model_name}': {error}; leave it out") from None
    note = ""
    if base in _TRAINED:
        note = (
            f"its network is trained the first time, for {values['max_iters']:,} iterations: hours, even on a GPU; "
            f"--set {base}.max_iters=N makes it N"
        )
    return Derived(values, str(model), note)


def presets_of(base: str) -> list[str]:
    """The presets of an editor that need no file, as ``kgt:paper``."""
    return [name for name in PRESETS if name.partition(":")[0] == base]
