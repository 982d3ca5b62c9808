"""KGT inside EasyEdit: ``import kgt_editor.easyedit``, and EasyEdit's own code takes it without a patch.

.. code-block:: python

    from kgt_editor.easyedit import KGTHyperParams
    from easyeditor import BaseEditor

    editor = BaseEditor.from_hparams(KGTHyperParams.from_hparams("hparams/KGT/gpt2-xl.yaml"))
    metrics, model, _ = editor.edit(prompts=..., target_new=..., subject=..., sequential_edit=True)

Importing registers KGT: ``ALG_DICT["KGT"]``; ``"KGT"`` in ``CALLABLE_RESTORE_ALGS``, so that edits that are not
sequential are undone; and among the methods that ``batch_edit`` takes. EasyEdit is found on PYTHONPATH or in
``EASYEDIT_HOME``.

EasyEdit hands every edit the plain model, edited before or not. The facts of a sequence are therefore kept here, by
the model, for the editor (the hyperparameter object) that made them; they go when the model goes, when the editor
undoes them, or by :func:`reset`.

``docs/easyedit.patch`` is the pull request to EasyEdit after which its users need not import this module.
:func:`register` finds a KGT that is there already and leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from pydantic import ConfigDict, Field
from torch import nn

from kgt_editor.config import read_yaml
from kgt_editor.editors.easyedit.loading import load, marked_name
from kgt_editor.editors.kgt import apply_kgt_to_model as tune
from kgt_editor.errors import UsageError
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.hparams import KGTHyperParams as MethodHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.loading import model_source

NAME = "KGT"


class KGTHyperParams(MethodHyperParams):
    """KGT's settings as EasyEdit's editors want them: fields can be set, and say which model is loaded where.

    Attributes:
        model_name: what EasyEdit loads; a shipped testbed model becomes its folder.
        device: CUDA index or device name; an index means ``cpu`` on a machine without CUDA.
        fp16: whether EasyEdit loads the model in half precision.
        batch_size: requests a call of ``batch_edit``; EasyEdit's ``edit`` wants 1.
        journal: file in which the user's facts are kept; without one they go with the model. What is in it already is
            in force from the first edit on.
        user: whose facts they are.
        relations: what the user calls the relation of an edit, by its prompt; for ``relation_source: user``, as
            EasyEdit's ``edit`` passes nothing of the kind on.
        evaluation_type, api_key, use_chat_template: EasyEdit's, read by its evaluation.
    """

    model_config = ConfigDict(frozen=False)
    IGNORED_KEYS = MethodHyperParams.IGNORED_KEYS - {"fp16", "batch_size"}

    fp16: bool = False
    batch_size: int = Field(default=1, ge=1)
    journal: str | None = None
    user: str = "user"
    relations: dict[str, list[str]] = Field(default_factory=dict)
    evaluation_type: str | None = None
    api_key: str | None = None
    use_chat_template: bool = False

    @classmethod
    def from_hparams(cls, hparams_name_or_path: str | Path) -> KGTHyperParams:
        """Read one of ``hparams/KGT``; the suffix may be left out.

        Raises:
            UsageError: as :meth:`kgt_editor.config.HParams.from_hparams`; a YAML of another method; a model that
                EasyEdit cannot tell the kind of; ``inference: marginal``, which has no forward pass to evaluate.
        """
        path = Path(hparams_name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            path = path.with_name(path.name + ".yaml")
        values = read_yaml(path)
        if values.get("alg_name") != NAME:
            raise UsageError(f"{path}: alg_name is {values.get('alg_name')!r}, so this is not a YAML of {NAME}")
        hparams = cls.build(values, str(path))
        if not hparams.model_name:
            raise UsageError(f"{path}: key 'model_name' is missing; it says which model EasyEdit loads")
        if hparams.inference != "top1":
            raise UsageError(f"{path}: 'inference' = {hparams.inference!r}: EasyEdit's evaluation needs top1")
        hparams.model_name = marked_name(model_source(hparams.model_name))
        if isinstance(hparams.device, int) and not torch.cuda.is_available():
            hparams.device = "cpu"
        return hparams

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary, as EasyEdit's own hyperparameters have them."""
        return self.model_dump()


@dataclass(frozen=True)
class _Sequence:
    """The edits in force on a plain model, and whose they are."""

    graph: PersonalGraph
    owner: object


# By the model itself: it holds no reference to it, so both go together.
_SEQUENCES: WeakKeyDictionary[nn.Module, _Sequence] = WeakKeyDictionary()


def apply_kgt_to_model(
    model: nn.Module,
    tok: Any,
    requests: list[dict[str, Any]],
    hparams: KGTHyperParams,
    copy: bool = False,
    return_orig_weights: bool = False,
    keep_original_weight: bool = False,
    **kwargs: Any,
) -> tuple[KGEnhancedLM, Callable[[], None]]:
    """What EasyEdit calls, with its plain model every time; the weights are never touched.

    Args:
        model: the plain model; edits that the same editor made on it before are resumed. A model that was
            returned from here goes on with its own.
        tok: its tokenizer.
        requests: EasyEdit's dictionaries.
        hparams: the editor's; the object itself says which editor it is.
        copy: leave what is in force on ``model`` as it is; only the returned model knows the new facts.
        return_orig_weights, keep_original_weight, **kwargs: EasyEdit's, of no effect.

    Returns:
        The model with its facts, and a callable that takes back exactly these edits.

    Raises:
        UsageError: another editor's edits are in force on the model, or a request is incomplete.
    """
    requests = [_with_relations(request, hparams) for request in requests]
    if isinstance(model, KGEnhancedLM):
        return tune(model, tok, requests, hparams, copy=copy)
    sequence = _sequence(model, hparams)
    wrapped = KGEnhancedLM(model, tok, sequence.graph, hparams)
    edited, undo = tune(wrapped, tok, requests, hparams, copy=copy)
    if not copy:
        _SEQUENCES[model] = sequence

    def restore() -> None:
        undo()
        if _SEQUENCES.get(model) is sequence and not _in_force(sequence):
            del _SEQUENCES[model]

    return edited, restore


def reset(model: nn.Module) -> None:
    """Forget all edits in force on a plain model; models returned before keep theirs, and so does a journal."""
    _SEQUENCES.pop(model, None)


def _with_relations(request: dict[str, Any], hparams: KGTHyperParams) -> dict[str, Any]:
    """A request with the relations that the hyperparameters have for its prompt, unless it has its own."""
    known = hparams.relations.get(request.get("prompt", ""))
    return {"relations": known, **request} if known else request


def _sequence(model: nn.Module, hparams: KGTHyperParams) -> _Sequence:
    known = _SEQUENCES.get(model)
    if known is not None and known.owner is not hparams and _in_force(known):
        raise UsageError(
            "KGT edits of another editor are in force on this model: give each editor a model of its own, or drop them "
            "with kgt_editor.easyedit.reset(model)"
        )
    if known is not None and known.owner is hparams:
        return known
    journal = Journal(hparams.journal) if hparams.journal else None
    return _Sequence(PersonalGraph(base_graph(hparams.graph), journal, hparams.user), hparams)


def _in_force(sequence: _Sequence) -> bool:
    return bool(sequence.graph.added or sequence.graph.removed)


def register() -> None:
    """Make KGT one of EasyEdit's methods, and of those that take several requests a call.

    Doing it twice, or beside an EasyEdit that has it already, changes nothing.

    Raises:
        UsageError: no EasyEdit, a broken one, or one whose registry is no longer where it was.
    """
    peer = load()
    peer.algorithms.setdefault(NAME, apply_kgt_to_model)
    peer.callable_restore.add(NAME)
    batchable = peer.batches.is_batchable_method
    if not batchable(NAME):
        peer.batches.is_batchable_method = staticmethod(lambda alg_name: alg_name == NAME or batchable(alg_name))


register()
