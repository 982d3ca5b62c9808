"""Colours and marks of the editors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kgt_editor.editors.names import names
from kgt_editor.reporting.labels import apart
from kgt_editor.reporting.style import FAMILIES, MISSING, family, look

GROUNDS = ("#ffffff", "#1b2126")  # of the page's figures, light and dark
# Machado, Oliveira and Fernandes (2009), deuteranopia, on linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio."""
    low, high = sorted(float(linear(colour) @ TO_XYZ[1]) + 0.05 for colour in (one, other))
    return high / low


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b*, under D65."""
    x, y, z = TO_XYZ @ np.clip(rgb, 0, 1) / (0.95047, 1, 1.08883)
    x, y, z = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("editor", [*names(), "none", "somebodys", "another", "a-third"])
def test_colours_are_seen_on_both_grounds(editor):
    assert min(contrast(look(editor).colour, ground) for ground in GROUNDS) >= 3


@pytest.mark.parametrize("members", FAMILIES.values(), ids=FAMILIES)
def test_who_sees_no_green_tells_the_lines_of_a_panel_apart(members):
    seen = [lab(DEUTERANOPIA @ linear(look(name).colour)) for name in ("none", *dict.fromkeys(("kgt", *members)))]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 20


def test_every_editor_has_a_panel_and_none_has_the_mark_of_what_is_missing():
    assert {family(name) for name in names()} <= {*FAMILIES, "Others"}
    assert family("kgt:user") == family("icl:bm25")
    assert family("somebodys") == "Others"
    assert MISSING not in {look(name).mark for name in (*names(), "none", "somebodys", "another", "a-third")}


@pytest.mark.parametrize("heights", [[], [0.5], [0.2, 0.21, 0.9], [1.0] * 5, [0.0, 0.97, 0.98, 0.99, 1.0]])
def test_labels_stand_apart_in_order_and_near_their_lines(heights):
    places = apart(heights, 0.1, 1.0)
    assert len(places) == len(heights)
    assert all(after - before >= 0.1 - 1e-9 for before, after in itertools.pairwise(places))
    assert all(place <= 1.0 + 1e-9 for place in places)
    assert sum(map(abs, np.subtract(places, heights))) <= 0.1 * len(heights) ** 2 / 2
    lonely = [height for height in heights if all(height == other or abs(height - other) > 0.3 for other in heights)]
    assert all(height in places for height in lonely if heights.count(height) == 1)


def test_every_editor_keeps_its_look():
    ours = [look(name) for name in names()]
    assert len({one.colour for one in ours}) == len({one.mark for one in ours}) == len(ours)
    assert look("kgt:paper").colour == look("kgt").colour
    assert look("kgt:paper").hollow
    assert look("kgt:paper").mark != look("kgt:user").mark
    assert look("somebodys").colour == look("somebodys").colour
