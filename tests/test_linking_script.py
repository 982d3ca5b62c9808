"""``benchmarks/measure/linking.py`` on files small enough to know the answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest


def record(prompt: str, subject: str, neighbour: str, **more: list[str]) -> dict:
    """A CounterFact record, in ROME's layout."""
    rewrite = {"relation_id": "P1", "prompt": prompt, "subject": subject}
    empty = {"paraphrase_prompts": [], "generation_prompts": []}
    return {"requested_rewrite": rewrite, "neighborhood_prompts": [neighbour], **empty, **more}


@pytest.fixture
def data(tmp_path: Path, load_script) -> Path:
    script = load_script("linking")
    records = [
        record(
            "The language of {} is", "Ada Brun", "The language of Michel Rocard is", generation_prompts=["Ada Brun's"]
        ),
        record("The language of {} is", "Paris", "The language of Paris is", paraphrase_prompts=["It is in Rome."]),
        record("The language of {} is", "Rome", "The language of Paris Bordone is"),
    ]
    with gzip.open(tmp_path / script.COUNTERFACT, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(each) + "\n" for each in records)
    rows = [
        "dog CapableOf bark",
        "language UsedFor talk",
        "paris AtLocation map",
        "knife UsedFor cut",
        "book AtLocation bag",
    ]
    graph = "".join(row.replace(" ", "\t") + "\n" for row in rows)
    for name in script.CONCEPTNET:
        (tmp_path / name).write_bytes(gzip.compress(graph.encode()))
    return tmp_path


def test_links_are_counted_by_what_they_lead_to(data: Path, load_script) -> None:
    script = load_script("linking")
    found = script.measure(data, 2)
    for name in script.CONCEPTNET:
        assert found["neighbourhood"][name]["linked_to"] == {"nothing": 1, "subject": 1}
        assert found["neighbourhood"][name]["wrong_share"] == 0
        assert found["own"][name]["query"] == {"texts": 2, "linked_to_the_subject": 1}
        assert found["own"][name]["paraphrase"] == {"texts": 2, "linked_to_the_subject": 0.5}
        assert found["conceptnet"][name]["examples_right"] == len(script.EXAMPLES)
        assert found["conceptnet"][name]["linked_to"] == {"the entity": 2}
    assert found["first_person"] == {"texts": 6, "linked": 0, "examples": []}
    assert found["world"]["linked_to_the_subject"] > 0.99


@pytest.mark.parametrize(
    ("head", "subject", "said"),
    [
        (None, "Ada Brun", "nothing"),
        ("ada brun", "Ada Brun", "subject"),
        ("ada", "Ada Brun", "part of the subject"),
        ("language", "Ada Brun", "elsewhere"),
        ("language", None, "subject unknown"),
    ],
)
def test_a_link_is_judged_by_the_subject(head: str | None, subject: str | None, said: str, load_script) -> None:
    assert load_script("linking").verdict(head, subject) == said


def test_the_subject_stands_in_the_gap_of_the_longest_prompt(load_script) -> None:
    subject_of = load_script("linking").subject_of
    assert subject_of("The language of Ada is", ["{} is", "The language of {} is", "{} was"]) == "Ada"
    assert subject_of("Ada", ["{} is"]) is None


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch, capsys, load_script) -> None:
    monkeypatch.setattr("sys.argv", ["linking.py", "--data", str(tmp_path)])
    assert load_script("linking").main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'counterfact_rome_rebuilt.jsonl.gz'}: cannot be read: " + (
        "No such file or directory\n"
    )
