"""What has to be known of a model before its cells run, found by a process that loads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers.utils.logging import disable_progress_bar

from kgt_editor.data.base import DataSet
from kgt_editor.errors import UnsupportedModelError
from kgt_editor.evaluation.known import KnownRecords
from kgt_editor.evaluation.readable import readable
from kgt_editor.evaluation.scorer import scorer
from kgt_editor.lm.layers import device_of
from kgt_editor.progress import Advance, Note
from kgt_editor.runs.cells import MAX_KNOWN_FACTS
from kgt_editor.runs.environment import environment
from kgt_editor.runs.task import LoadedModel

if TYPE_CHECKING:
    from kgt_editor.runs.request import Request


@dataclass(frozen=True)
class ModelInfo:
    """What a process finds that has the model.

    Attributes:
        environment: see :func:`kgt_editor.runs.environment.environment`.
        data: the records that it can read, where it cannot read all, or those that it knows, where these are asked for.
        known: their share.
    """

    environment: dict[str, Any]
    data: DataSet | None = None
    known: dict[str, Any] | None = None


@dataclass(frozen=True)
class ModelInfoTask:
    """Finding it out, as work for a worker."""

    request: Request

    def __call__(self, advance: Advance, note: Note) -> ModelInfo:
        disable_progress_bar()
        return model_info(self.request, loaded_model(self.request), advance)


def loaded_model(request: Request) -> LoadedModel:
    """The request's model, loaded."""
    config = request.config
    return LoadedModel(config.model, config.device, config.dtype, config.device_map)


def model_info(request: Request, loaded: LoadedModel, advance: Advance) -> ModelInfo:
    """What has to be known of the model before a cell runs.

    Raises:
        UsageError: it knows too little, or an editor does not support it.
    """
    config = request.config
    for name, editor in request.editors.items():
        ok, reason = editor.supports(loaded.model)
        if not ok:
            raise UnsupportedModelError(f"editor '{name}' cannot edit '{config.model}': {reason}; leave it out")
    made = environment(device_of(loaded.model))
    data = readable(request.data, loaded.model, loaded.tok)
    if not config.known_only:
        return ModelInfo(made, None if data is request.data else data)
    records = KnownRecords(scorer(loaded.model, loaded.tok, config.texts_a_pass), data, advance)
    data = records.limited(config.count, config.seeds, MAX_KNOWN_FACTS)
    return ModelInfo(made, data, records.share())
