"""Knowledge neurons."""

from kgt_editor.editors.kn.editor import KNEditor, KNHParams, apply_kn_to_model

__all__ = ["KNEditor", "KNHParams", "apply_kn_to_model"]
