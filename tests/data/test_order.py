"""Published orders of editing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kgt_editor.data.base import DataSet
from kgt_editor.data.order import in_order, read_orders
from kgt_editor.errors import UsageError


@pytest.fixture
def data(tiny_records):
    records = tuple(replace(record, case_id=number) for number, record in enumerate(tiny_records))
    return DataSet("tiny", records[:6], training=records[6:8]).hashed()


@pytest.fixture
def order(tmp_path):
    def write(content):
        path = tmp_path / "order.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_a_sequence_follows_its_seeds_order(data, order, capsys):
    path = order({"0": [7, 5, 1, 99, 3, 0, 2], "1": [0, 1, 2, 3, 4, 5]})
    found = in_order(data, path, 3, 2)
    assert [record.case_id for record in found.sample(3, 0)] == [5, 1, 3]
    assert [record.case_id for record in found.sample(3, 1)] == [0, 1, 2]
    # 7 is a training record, 99 none of this data set.
    assert f"order of {path}: 2/0 of its cases are no reported records" in capsys.readouterr().err
    assert found.revision.startswith(f"{data.revision}-")


def test_cases_that_no_order_names_come_last(data, order):
    found = in_order(data, order({"0": [5, 3]}), 2, 1)
    assert [record.case_id for record in found.sample(6, 0)][:2] == [5, 3]
    assert {record.case_id for record in found.sample(6, 0)} == set(range(6))


def test_another_order_is_another_revision(data, order, capsys):
    first = in_order(data, order({"0": [0, 1, 2]}), 2, 1)
    second = in_order(data, order({"0": [1, 0, 2]}), 2, 1)
    assert not capsys.readouterr().err
    assert first.revision != second.revision


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[1, 2]", "must be"),
        ("{}", "must be"),
        ({"first": [1]}, "'first' is no seed"),
        ({"0": "12"}, "seed 0: must be a list of case numbers"),
        ({"0": [1, True]}, "seed 0: must be a list of case numbers"),
        ({"0": [1, 2, 1]}, "seed 0: a case comes twice"),
        ("{", "line 1"),
    ],
)
def test_another_layout_is_refused_by_name(content, told, order):
    path = order(content)
    with pytest.raises(UsageError, match=told) as caught:
        read_orders(path)
    assert str(caught.value).startswith(str(path))


def test_too_few_orders_or_cases_are_told(data, order):
    path = order({"0": [0, 1, 7]})
    with pytest.raises(UsageError, match="no order for seed 1; it has 1"):
        in_order(data, path, 1, 2)
    with pytest.raises(
        UsageError, match="2 of its 3 cases are among the 6 reported records of 'tiny', fewer than the 3"
    ):
        in_order(data, path, 3, 1)
