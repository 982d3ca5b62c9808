from __future__ import annotations

import importlib.metadata
import sys
import types

import pytest

from kgt_editor import registry
from kgt_editor.data import base, provenance
from kgt_editor.data.base import DataSet, KnownFact, content_hash
from kgt_editor.errors import UsageError


@pytest.fixture
def toy(tiny_records):
    return DataSet("toy", tiny_records, known_facts=(KnownFact("Tarsil lies in", "Quin"),))


def test_sample_is_seeded_distinct_and_nested(toy):
    first, again, other = toy.sample(16, 0), toy.sample(16, 0), toy.sample(16, 1)
    assert first == again
    assert first != other
    assert (
        sorted(r.case_id for r in first) == sorted(r.case_id for r in other) == sorted(r.case_id for r in toy.records)
    )
    assert toy.sample(5, 0) == first[:5]


def test_sample_does_not_depend_on_the_order_of_the_file(toy):
    assert DataSet("toy", toy.records[::-1]).sample(7, 3) == toy.sample(7, 3)


@pytest.mark.parametrize("size", [0, -1, 17])
def test_an_impossible_size_names_the_pool(toy, size):
    with pytest.raises(
        UsageError, match=rf"size {size} is not between 1 and the 16 reported records of 'toy'.*1 known"
    ):
        toy.sample(size, 0)


def test_the_content_hash_follows_the_content(tiny_records):
    assert content_hash(tiny_records) == content_hash(tuple(tiny_records))
    assert content_hash(tiny_records) != content_hash(tiny_records[1:])


def test_unknown_missing_and_superfluous_are_named(tmp_path):
    with pytest.raises(
        UsageError, match=r"unknown data set 'wolrd'; did you mean 'world'\? known: .*world.*counterfact"
    ):
        base.load("wolrd")
    with pytest.raises(UsageError, match="'world' is shipped with the package and takes no --data"):
        base.load("world", data=tmp_path / "x.json")


def test_a_plugin_is_found_by_its_entry_point(monkeypatch, toy, tmp_path):
    package = types.ModuleType("package")
    package.load = lambda path=None: DataSet(f"mine {path}", toy.records)
    monkeypatch.setitem(sys.modules, "package", package)

    def entry_points(group):
        assert group == "kgt_editor.datasets"
        return (importlib.metadata.EntryPoint("mine", "package:load", group),)

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert base.available()["mine"] == "from package:load"
    assert base.load("mine").name == "mine None"
    assert base.load("mine", tmp_path).name == f"mine {tmp_path}"
    assert importlib.metadata.entry_points is not registry.entry_points


def test_every_data_set_of_ours_says_where_it_comes_from():
    assert set(provenance.PROVENANCE) == set(base._ENTRIES)
    assert all(known.licence and known.source for known in provenance.PROVENANCE.values())
