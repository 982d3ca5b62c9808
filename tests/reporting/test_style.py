"""Colours and marks of the editors."""

from __future__ import annotations

from kgt_editor.reporting.style import look


def test_every_editor_keeps_its_look():
    paper = [look(name) for name in ("ft", "rome", "ke", "kn", "mend", "none", "kgt", "icl", "oppu", "locft")]
    assert len({one.colour for one in paper}) == len({one.mark for one in paper}) == len(paper)
    assert look("kgt:paper").colour == look("kgt").colour
    assert look("kgt:paper").hollow
    assert look("kgt:paper").mark != look("kgt:user").mark
    assert look("somebodys").colour == look("somebodys").colour
