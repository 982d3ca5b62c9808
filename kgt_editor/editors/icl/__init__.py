"""In-context learning: the weights stay, what the user told is put in front of every query."""

from kgt_editor.editors.icl.editor import ICLEditor, apply_icl_to_model
from kgt_editor.editors.icl.hparams import ICLHParams
from kgt_editor.editors.icl.model import InContextLM

__all__ = ["ICLEditor", "ICLHParams", "InContextLM", "apply_icl_to_model"]
