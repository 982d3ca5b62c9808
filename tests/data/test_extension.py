"""CounterFactExtension: the layout of Appendix B, targets that are never true, sentences of our own that read well."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import defaultdict

import pytest
from data_builders import SHARED, write

from kgt_editor.cli.data import main
from kgt_editor.data.base import load
from kgt_editor.data.check import check_file
from kgt_editor.data.extension import (
    SourceFact,
    build_records,
    distinct,
    grammar_faults,
    read_facts,
    sentences,
)
from kgt_editor.errors import UsageError

needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not on this machine")
FACTS = SHARED / "pararel_facts.jsonl.gz"
NOT_LAST_IN_PARAREL = {"P27", "P106", "P136", "P140", "P190", "P413"}


def invented():
    """Facts about invented towns and people; Velmora and Tarsil are twins, so are Quindle and Tarsil."""
    towns = ["Velmora", "Tarsil", "Quindle", "Osthaven"]
    facts = [SourceFact(f"Person {number}", "P19", towns[number % 4]) for number in range(12)]
    facts += [SourceFact("Velmora", "P190", "Tarsil"), SourceFact("Tarsil", "P190", "Quindle")]
    facts += [SourceFact("Osthaven", "P190", "Quindle"), SourceFact("Irkford", "P190", "Velmora")]
    facts += [SourceFact("Osthaven", "P190", "Moorbeck"), SourceFact("Irkford", "P190", "Dunholm")]
    return facts


@pytest.fixture(scope="module")
def published():
    return read_facts(FACTS)


@pytest.fixture(scope="module")
def records(published):
    return build_records(published)


def test_every_relation_has_sentences_that_read_left_to_right():
    assert len(sentences()) == 34
    assert set(sentences()) >= NOT_LAST_IN_PARAREL
    for asked in sentences().values():
        every = (asked.edit, *asked.paraphrases, *asked.generation)
        assert len(set(every)) == len(every) == 5
        for sentence in every:
            assert sentence.count("{}") == 1
            assert re.fullmatch(r"[A-Z{].* [a-z]+", sentence), sentence
            assert not sentence.endswith((" a", " an"))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"prompt": "{}  was born in"}, "spaces in"),
        ({"prompt": "{} was born in "}, "spaces in"),
        ({"prompt": "{} was born in:"}, "punctuation at the end"),
        ({"prompt": "{} is the child of a"}, "an article at the end"),
        ({"prompt": "{} came from a old town called"}, "the wrong article"),
        ({"prompt": "Somebody was born in"}, "the subject 'Person 0' is not in"),
        ({"target_new": {"str": " "}}, "empty target_new"),
    ],
)
def test_the_grammar_check_finds(change, fault):
    record = build_records(invented())[0]
    assert grammar_faults(record) == []
    record["requested_rewrite"] |= change
    assert any(fault in found for found in grammar_faults(record))


def test_records_have_the_layout_of_the_paper():
    facts = [SourceFact("Ukraine", "P530", "Malaysia"), SourceFact("Alan Turing", "P101", "logic")]
    facts += [SourceFact("Peru", "P530", "Chile"), SourceFact("Emmy Noether", "P101", "algebra")]
    records = build_records(facts)
    assert [record["case_id"] for record in records] == [0, 1, 2, 3]
    first = records[0]["requested_rewrite"]
    assert first["subject"] == "Alan Turing"  # relations in the order of their ids
    assert first["relation_id"] == "P101(field of work)"
    assert (first["target_true"], first["target_new"]) == ({"str": "logic"}, {"str": "algebra"})
    assert records[2]["requested_rewrite"]["relation_id"] == "P530(diplomatic relation)"
    assert all(record["generation_prompts"] for record in records)


def test_a_target_is_never_true_in_either_direction():
    for seed in range(20):
        for record in build_records(invented(), seed):
            rewrite = record["requested_rewrite"]
            if rewrite["relation_id"].startswith("P190"):
                twins = {
                    "Velmora": {"Tarsil", "Irkford"},
                    "Tarsil": {"Velmora", "Quindle"},
                    "Osthaven": {"Quindle", "Moorbeck"},
                    "Irkford": {"Velmora", "Dunholm"},
                }
                assert rewrite["target_new"]["str"] not in twins[rewrite["subject"]]
                assert rewrite["target_new"]["str"] != rewrite["subject"]


def test_where_every_object_is_true_the_relation_is_named():
    with pytest.raises(UsageError, match="relation P19: no object is left that is not true of 'A'"):
        build_records([SourceFact("A", "P19", "B"), SourceFact("A", "P19", "C")])


def test_neighbours_share_the_true_object_and_not_the_new_one():
    for record in build_records(invented()):
        rewrite = record["requested_rewrite"]
        if rewrite["relation_id"].startswith("P19("):
            numbers = [int(re.search(r"Person (\d+)", text)[1]) for text in record["neighborhood_prompts"]]
            own = int(rewrite["subject"].split()[1])
            assert sorted(numbers) == [n for n in range(12) if n % 4 == own % 4 and n != own]


def test_repeats_are_kept_under_the_paper_s_numbers_or_left_out():
    facts = [*invented(), *invented()[:3]]
    assert len(build_records(facts)) == len(invented()) + 3
    assert distinct(facts) == invented()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"subject": "A", "object": "B"}], "record 0: field 'relation' is missing"),
        ([{"subject": "A", "relation_id": "P19"}], "record 0: field 'object' is missing"),
        (
            [{"subject": "A", "object": "B", "relation_id": "P99"}],
            "record 0: field 'relation_id': there are no sentences",
        ),
    ],
)
def test_a_broken_fact_names_the_field(tmp_path, rows, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        read_facts(write(tmp_path, rows))


def test_facts_may_name_the_relation_in_full_and_runs_of_spaces_become_one(tmp_path):
    rows = [{"subject": "PFC  Sofia", "object": "B", "relation": "P159(headquarters location)"}]
    assert read_facts(write(tmp_path, rows)) == [SourceFact("PFC Sofia", "P159", "B")]


def test_dai_s_own_file_is_read_as_it_is_published(tmp_path):
    pairs = {}
    for fact in invented():
        pairs.setdefault(fact.relation, []).append([fact.subject, fact.object])
    path = tmp_path / "query_pairs.json"
    path.write_text(json.dumps(pairs, indent=2))
    assert read_facts(path) == invented()
    for broken, message in (({"P19": ["A"]}, "P19, pair 0: must be [subject, object]"), ({"P19": 3}, "P19: is not a")):
        path.write_text(json.dumps(broken))
        with pytest.raises(UsageError, match=re.escape(f"{path}, {message}")):
            read_facts(path)


def test_the_command_writes_the_same_bytes_and_a_loadable_file(tmp_path, capsys):
    rows = [{"subject": f.subject, "object": f.object, "relation_id": f.relation} for f in invented()]
    source = str(write(tmp_path, rows, "facts.json"))
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main(["build-extension", "--facts", source, "--out", str(tmp_path / name), "--seed", seed]) == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c
    assert f"{tmp_path / 'a'}: 18 records; 0 of the facts are repeats and were kept" in capsys.readouterr().out
    data = load("counterfact-extension", tmp_path / "a")
    assert data.name == "counterfact-extension"
    assert main(["build-extension", "--facts", source, "--sample", "5"]) == 0
    out = capsys.readouterr().out
    assert sum(" -> " in line for line in out.splitlines()) == 5
    assert main(["build-extension", "--facts", source]) == 2
    assert main(["build-extension", "--facts", source, "--out", str(tmp_path / "no" / "folder")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "facts.json"]


@needs_data
def test_the_paper_s_two_examples_have_the_paper_s_case_numbers(records, published):
    assert len(records) == 27_738
    assert len(distinct(published)) == 27_717
    for number, subject, true in ((0, "Alan Turing", "logic"), (25_585, "Ukraine", "Malaysia")):
        rewrite = records[number]["requested_rewrite"]
        assert (rewrite["subject"], rewrite["target_true"]["str"]) == (subject, true)


@needs_data
def test_all_records_read_well_and_no_target_is_true(records, published):
    true = defaultdict(set)
    for fact in published:
        true[fact.subject].add(fact.object)
    objects = {(fact.relation, fact.object) for fact in published}
    answers = {}
    for record in records:
        assert grammar_faults(record) == []
        rewrite = record["requested_rewrite"]
        new, relation = rewrite["target_new"]["str"], rewrite["relation_id"].split("(")[0]
        assert (relation, new) in objects
        assert new not in true[rewrite["subject"]]
        assert answers.setdefault((relation, rewrite["subject"]), new) == new
        assert len(record["neighborhood_prompts"]) <= 10
    assert sum(bool(record["neighborhood_prompts"]) for record in records) > 0.9 * len(records)


@needs_data
def test_the_whole_builds_in_time_and_passes_the_validator(tmp_path, capsys):
    start = time.process_time()
    out = tmp_path / "counterfact_extension.json"
    assert main(["build-extension", "--facts", str(FACTS), "--out", str(out), "--distinct"]) == 0
    assert time.process_time() - start < 60
    assert "27,717 records; 21 of the facts are repeats and were left out" in capsys.readouterr().out
    report = check_file(out)
    assert report.ok, report.offenders
    assert report.counts["relations"] == 34
    assert report.notes == {}
    assert len(load("counterfact-extension", out).records) > 18_000


@needs_data
def test_no_sentence_is_pararel_s_or_counterfact_s(records):
    def plain(text):
        return re.sub(r"\W+", " ", text.replace("{}", "X")).strip().casefold()

    theirs = set()
    for relation in json.loads((SHARED / "pararel_patterns.json").read_text()).values():
        theirs |= {
            re.sub(r"\W+", " ", text["pattern"].split("[Y]")[0]).strip().casefold() for text in relation["patterns"]
        }
    with gzip.open(SHARED / "counterfact_rome_rebuilt.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            rewrite = row["requested_rewrite"]
            prompts = [
                rewrite["prompt"],
                *(text.replace(rewrite["subject"], "{}") for text in row["generation_prompts"]),
            ]
            theirs |= {re.sub(r"\W+", " ", text.replace("{}", "X")).strip().casefold() for text in prompts}
    ours = {text for asked in sentences().values() for text in (asked.edit, *asked.paraphrases, *asked.generation)}
    assert {text for text in ours if plain(text) in theirs} == set()
