"""The names of the editors. Nothing here imports an editor, so that a wrong name is told at once."""

from __future__ import annotations

from kgt_editor.errors import UsageError
from kgt_editor.registry import Registry

EDITORS = Registry(
    "editor",
    "kgt_editor.editors",
    {
        "none": "kgt_editor.editors.none:NoneEditor",
        "kgt": "kgt_editor.editors.kgt:KGTEditor",
        "rome": "kgt_editor.editors.key_value.rome:ROMEEditor",
        "memit": "kgt_editor.editors.key_value.memit:MEMITEditor",
        "alphaedit": "kgt_editor.editors.key_value.alphaedit:AlphaEditEditor",
        "ultraedit": "kgt_editor.editors.ultraedit:UltraEditEditor",
        "mend": "kgt_editor.editors.hypernet.mend:MENDEditor",
        "ke": "kgt_editor.editors.hypernet.ke:KEEditor",
        "ft": "kgt_editor.editors.ft:FTEditor",
        "locft": "kgt_editor.editors.locft:LocFTEditor",
        "kn": "kgt_editor.editors.kn.editor:KNEditor",
        "oppu": "kgt_editor.editors.oppu.editor:OPPUEditor",
        "icl": "kgt_editor.editors.icl.editor:ICLEditor",
    },
)
# Editors that are only one together with what follows the colon (easyedit:WISE).
_BY_COLON = Registry("editor", "", {"easyedit": "kgt_editor.editors.easyedit.editor:EasyEditEditor"})
BY_COLON_LISTED = {"easyedit:<NAME>": "a method of EasyEdit's (WISE, GRACE, LoRA, ...); needs a clone in EASYEDIT_HOME"}


def register(name: str, target: str) -> None:
    """Adds an editor under ``name``; ``target`` is ``module:Class``, imported when first asked for.

    Raises:
        UsageError: the name is taken or cannot be one, or the target has another form.
    """
    if name != name.lower() or ":" in name or not name:
        raise UsageError(f"editor name {name!r} must be lower case and hold no ':', which stands before a preset")
    if name in _BY_COLON.names():
        raise UsageError(f"editor '{name}' is registered already; choose another name")
    EDITORS.register(name, target)


def names() -> list[str]:
    """Names of all editors, without importing any."""
    return EDITORS.names()


def registry_of(name: str) -> Registry:
    """Where an editor is found; a preset behind a colon (``kgt:paper``) is left out of account.

    Raises:
        UsageError: an unknown editor, or one that needs a name behind a colon.
    """
    base, colon, _ = name.partition(":")
    if base in _BY_COLON.names():
        if not colon:
            raise UsageError(f"editor '{base}' is one only with a name behind it, as in '{base}:WISE'")
        return _BY_COLON
    EDITORS.target(base)
    return EDITORS
