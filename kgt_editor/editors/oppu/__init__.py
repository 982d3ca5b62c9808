"""One PEFT per user."""

from kgt_editor.editors.oppu.editor import OPPUEditor, OPPUHParams, apply_oppu_to_model

__all__ = ["OPPUEditor", "OPPUHParams", "apply_oppu_to_model"]
