"""Editors whose work a hypernetwork does: MEND and KE."""

from kgt_editor.editors.hypernet.ke import KEEditor, KEHParams, apply_ke_to_model
from kgt_editor.editors.hypernet.mend import MENDEditor, MENDHParams, apply_mend_to_model

__all__ = ["KEEditor", "KEHParams", "MENDEditor", "MENDHParams", "apply_ke_to_model", "apply_mend_to_model"]
