"""Colours and marks of the editors."""

from __future__ import annotations

from kgt_editor.editors.names import names
from kgt_editor.reporting.style import look


def test_every_editor_keeps_its_look():
    ours = [look(name) for name in names()]
    assert len({one.colour for one in ours}) == len({one.mark for one in ours}) == len(ours)
    assert look("kgt:paper").colour == look("kgt").colour
    assert look("kgt:paper").hollow
    assert look("kgt:paper").mark != look("kgt:user").mark
    assert look("somebodys").colour == look("somebodys").colour
