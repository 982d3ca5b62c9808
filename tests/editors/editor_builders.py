"""Hyperparameters under which every registered editor edits the tiny random models of the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kgt_editor.config import HParams
from kgt_editor.editors.base import Editor, get_editor_class
from kgt_editor.editors.ft import FTHParams
from kgt_editor.editors.hypernet.ke import KEHParams
from kgt_editor.editors.hypernet.mend import MENDHParams
from kgt_editor.editors.icl import ICLHParams
from kgt_editor.editors.key_value.alphaedit import AlphaEditHParams
from kgt_editor.editors.key_value.hparams import ROMEHParams
from kgt_editor.editors.key_value.memit import MEMITHParams
from kgt_editor.editors.kn.editor import KNHParams
from kgt_editor.editors.locft import LocFTHParams
from kgt_editor.editors.none import NoneHParams
from kgt_editor.editors.oppu.editor import OPPUHParams
from kgt_editor.editors.ultraedit import UltraEditHParams
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams

LORA_MODULES = {"gpt2": ("c_attn", "c_fc"), "llama": ("q_proj", "v_proj", "up_proj")}
ROME_MODULES = {
    "gpt2": {
        "rewrite_module_tmp": "transformer.h.{}.mlp.c_proj",
        "layer_module_tmp": "transformer.h.{}",
        "ln_f_module": "transformer.ln_f",
        "lm_head_module": "transformer.wte",
    },
    "llama": {
        "rewrite_module_tmp": "model.layers.{}.mlp.down_proj",
        "layer_module_tmp": "model.layers.{}",
        "ln_f_module": "model.norm",
        "lm_head_module": "lm_head",
    },
}
MEND_LAYERS = {
    "gpt2": [f"transformer.h.{block}.mlp.{part}" for block in (1, 2) for part in ("c_fc", "c_proj")],
    "llama": [f"model.layers.{block}.mlp.{part}" for block in (1, 2) for part in ("gate_proj", "up_proj", "down_proj")],
}


def rome_hparams(model: Any, **changes: Any) -> ROMEHParams:
    values = {
        "layers": (1,),
        "v_num_grad_steps": 40,
        "v_lr": 0.5,
        "v_loss_layer": 2,
        "v_weight_decay": 0.01,
        "clamp_norm_factor": 10.0,
        "kl_factor": 0.0625,
        "context_prefixes": ("Yesterday the weather was good.",),
        **ROME_MODULES[model.config.model_type],
    }
    return ROMEHParams(**{**values, **changes})


def memit_hparams(model: Any, **changes: Any) -> MEMITHParams:
    values = rome_hparams(model).model_dump(exclude={"alg_name", "mom2_adjustment"}, exclude_unset=True)
    # A random model's keys are small beside the second moments of a text.
    return MEMITHParams(**{**values, "layers": (0, 1), "mom2_update_weight": 1.0, **changes})


def alphaedit_hparams(model: Any, **changes: Any) -> AlphaEditHParams:
    values = rome_hparams(model).model_dump(exclude={"alg_name", "mom2_adjustment"}, exclude_unset=True)
    return AlphaEditHParams(**{**values, "layers": (0, 1), "nullspace_threshold": 0.1, "L2": 1e-3, **changes})


def ultraedit_hparams(model: Any, **changes: Any) -> UltraEditHParams:
    return UltraEditHParams(**{"inner_params": tuple(MEND_LAYERS[model.config.model_type]), "lr": 1e-2, **changes})


def mend_hparams(model: Any, **changes: Any) -> MENDHParams:
    values = {
        "inner_params": tuple(f"{name}.weight" for name in MEND_LAYERS[model.config.model_type]),
        "rank": 8,
        "lr": 1e-3,
        "lr_lr": 1e-3,
        "edit_lr": 1e-2,
        "cedit": 0.1,
        "cloc": 1.0,
        "batch_size": 4,
        "max_iters": 4,
    }
    return MENDHParams(**{**values, **changes})


def ke_hparams(model: Any, **changes: Any) -> KEHParams:
    values = {
        "inner_params": tuple(f"{name}.weight" for name in MEND_LAYERS[model.config.model_type]),
        "lr": 1e-3,
        "lr_lr": 1e-3,
        "edit_lr": 0.1,
        "cedit": 1.0,
        "cloc": 1.0,
        "lstm_dim": 8,
        "hidden_dim": 16,
        "batch_size": 4,
        "max_iters": 4,
    }
    return KEHParams(**{**values, **changes})


def ft_hparams(model: Any, **changes: Any) -> FTHParams:
    values = {
        "layers": (1,),
        "num_steps": 25,
        "lr": 1e-2,
        "norm_constraint": 5e-2,
        "objective_optimization": "target_new",
        "rewrite_module_tmp": ROME_MODULES[model.config.model_type]["rewrite_module_tmp"],
    }
    return FTHParams(**{**values, **changes})


def locft_hparams(model: Any, **changes: Any) -> LocFTHParams:
    values = ft_hparams(model).model_dump(exclude={"alg_name", "norm_constraint"}, exclude_unset=True)
    return LocFTHParams(**{**values, **changes})


def kn_hparams(model: Any, **changes: Any) -> KNHParams:
    # In a random model of one block most facts share their neurons.
    return KNHParams(**{"layers": (1,), "steps": 4, "batch_size": 3, "shared_share": None, **changes})


def oppu_hparams(model: Any, **changes: Any) -> OPPUHParams:
    values = {
        "num_steps": 10,
        "lr": 1e-2,
        "target_modules": LORA_MODULES[model.config.model_type],
        "rank": 4,
        "lora_alpha": 8,
        "replay": 4,
    }
    return OPPUHParams(**{**values, **changes})


def icl_hparams(model: Any, **changes: Any) -> ICLHParams:
    return ICLHParams(**changes)


def kgt_hparams(model: Any, **changes: Any) -> KGTHyperParams:
    # The graph changes whatever a random model makes of the facts.
    eager = {"optimizer": "algorithm1", "stop": "loss", "epsilon": 0, "retrieval_min": 0, "K": 2}
    return KGTHyperParams(**{**AS_PRINTED, **eager, **changes})


def none_hparams(model: Any, **changes: Any) -> NoneHParams:
    return NoneHParams(**changes)


#: A new editor adds one line here and is held to the contract.
BUILDERS: dict[str, Callable[..., HParams]] = {
    "none": none_hparams,
    "kgt": kgt_hparams,
    "rome": rome_hparams,
    "memit": memit_hparams,
    "alphaedit": alphaedit_hparams,
    "ultraedit": ultraedit_hparams,
    "mend": mend_hparams,
    "ke": ke_hparams,
    "ft": ft_hparams,
    "locft": locft_hparams,
    "kn": kn_hparams,
    "oppu": oppu_hparams,
    "icl": icl_hparams,
}


def build(name: str, model: Any, **changes: Any) -> Editor:
    """The editor called ``name`` for one of the tiny models."""
    return get_editor_class(name)(BUILDERS[name](model, **changes))
