"""Rank-one model editing."""

from kgt_editor.editors.rome.editor import ROMEEditor, ROMEHParams, apply_rome_to_model

__all__ = ["ROMEEditor", "ROMEHParams", "apply_rome_to_model"]
