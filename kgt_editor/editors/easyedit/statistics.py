"""Second moments of keys for EasyEdit's locate-then-edit methods, of the text that ours have them of.

EasyEdit counts them over Wikipedia, which it downloads. With ``mom2_dataset: training`` in a YAML they are counted
here instead, over the training records, and laid where EasyEdit looks for what it has counted before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kgt_editor.data.record import Record
from kgt_editor.editors.base import Progress
from kgt_editor.editors.key_value.keys import TRAINING, key_moments
from kgt_editor.errors import UsageError


def wanted(values: Mapping[str, Any]) -> bool:
    """Whether a YAML asks for statistics of the training records."""
    return bool(values.get("mom2_dataset") == TRAINING)


def write_moments(
    model: nn.Module,
    tok: Any,
    values: Mapping[str, Any],
    training: Sequence[Record],
    folder: Path,
    progress: Progress | None = None,
) -> None:
    """Writes a file a layer below ``folder``, which is to be EasyEdit's ``stats_dir``.

    Args:
        model, tok: the unedited model and its tokenizer.
        values: the method's YAML.
        training: the records that the text is made of.
        folder: where to.
        progress: told of the passages read.

    Raises:
        UsageError: there are no training records, or a key of the YAML that this needs is missing.
        NumericalError: the text is too short for the layers.
    """
    try:
        layers = [values["rewrite_module_tmp"].format(layer) for layer in values["layers"]]
        samples, precision = int(values["mom2_n_samples"]), str(values["mom2_dtype"])
        dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"mom2_dataset: {TRAINING} needs layers, rewrite_module_tmp, mom2_n_samples and mom2_dtype (float32 or "
            f"float64) in EasyEdit's YAML: {type(error).__name__} {error}"
        ) from None
    config: Any = model.config
    place = folder / config._name_or_path.rsplit("/")[-1] / f"{TRAINING}_stats"
    place.mkdir(parents=True, exist_ok=True)
    for layer, moments in key_moments(model, tok, layers, TRAINING, samples, dtype, progress, training).items():
        # A mean over one token is a sum over one: EasyEdit divides what it reads by the count.
        content: dict[str, Any] = {
            "mom2.count": 1,
            "mom2.mom2": moments.to("cpu", dtype).numpy(),
            "sample_size": samples,
        }
        np.savez(place / f"{layer}_{precision}_mom2_{samples}.npz", **content)


def write_projection(model: nn.Module, tok: Any, theirs: Any, apply: Callable[..., Any], folder: Path) -> None:
    """Lets EasyEdit project once a model (AlphaEdit, SPHERE), which it else does anew at every edit.

    Args:
        model, tok: the unedited model and its tokenizer.
        theirs: EasyEdit's hyperparameters, whose ``P_loc`` is set.
        apply: the method.
        folder: where the projection is kept.
    """
    project = getattr(sys.modules[apply.__module__], "get_project", None)
    if project is None or not hasattr(theirs, "P_loc"):
        return
    theirs.P_loc = str(folder / "projection.pt")
    torch.save(torch.stack([project(model, tok, layer, theirs) for layer in theirs.layers]), theirs.P_loc)
