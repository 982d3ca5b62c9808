"""The validator: every kind of problem is found, and nothing in real files is called one that is none."""

from __future__ import annotations

import gzip
import json

import pytest
from data_builders import SHARED, flat, rome, write, zsre

from kgt_editor.cli.data import main
from kgt_editor.data.check import SHOWN, check_file, encoding_fault

needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not on this machine")


def person(number, builder=flat, **changes):
    """A valid record about another person."""
    text = json.dumps(builder(number) if builder is not zsre else builder()).replace("Ada Brun", f"Person {number}x")
    return json.loads(text) | changes


@pytest.mark.parametrize("builder", [flat, rome, zsre])
def test_a_good_file_is_counted_and_passes(tmp_path, capsys, builder):
    path = write(tmp_path, [person(number, builder) for number in range(30)])
    assert main(["check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert f"30 in the layout '{builder.__name__}'" in out
    assert "        30  subjects" in out
    assert out.endswith("no problems\n")
    assert err == ""


def in_rewrite(**changes):
    return rome(17, requested_rewrite=rome()["requested_rewrite"] | changes)


PROBLEMS = [
    ("field", {key: value for key, value in flat(17).items() if key != "ground_truth"}, "'ground_truth' is missing"),
    ("field", in_rewrite(target_new={"id": "Q1"}), "target_new: field 'str' is missing"),
    ("field", flat(17, subject=["Ada"]), "'subject' is not a text"),
    ("field", zsre(alt=""), "'alt' '': the new answer is empty"),
    ("field", "text", "must be an object"),
    ("subject", flat(17, prompt="She was born in"), "'Ada Brun' is not in 'She was born in'"),
    ("subject", flat(17, prompt="Ada Brunner was born in"), "'Ada Brun' is only a part of a word of 'Ada Brunner was"),
    ("subject", in_rewrite(prompt="She was born in"), "must hold '{}' exactly once"),
    ("subject", rome(17, generation_prompts=["Her town is"]), "'generation_prompts': the subject 'Ada Brun' is not in"),
    ("target", flat(17, target_new="velmora"), "'velmora' equals the true one"),
    ("target", zsre(alt="Velmora"), "'alt' 'Velmora': the new answer is a true one"),
    ("duplicate", person(3), "'case_id': 3 is that of record 3, too"),
    ("duplicate", person(3, case_id=99), "is that of record 3, too"),
    ("encoding", flat(17, target_new="KÃ¶ln"), "'target_new' is UTF-8 that was read as cp1252"),
    ("encoding", in_rewrite(target_new={"str": "K\ufffdln"}), "'str' holds a replacement character"),
    ("encoding", flat(17, rephrase_prompt="Ada Brun\x00 is from"), "'rephrase_prompt' holds a control character"),
]


@pytest.mark.parametrize(("kind", "bad", "message"), PROBLEMS, ids=[message for _, _, message in PROBLEMS])
def test_every_kind_of_problem_is_named_with_record_and_field(tmp_path, kind, bad, message):
    rows = [person(number) for number in range(30)]
    rows[17] = bad
    report = check_file(write(tmp_path, rows))
    assert report.counts["records"] == 30
    assert kind in report.problems
    found = [problem.message for problem in report.offenders if problem.kind == kind]
    assert any(message in text and text.startswith(f"{report.path}, record 17") for text in found), found
    assert all(problem.where.endswith("record 17") for problem in report.offenders)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (json.dumps([flat()]).encode()[:-3], "file", "not valid JSON"),
        (gzip.compress(json.dumps([flat()]).encode(), mtime=0)[:-9], "file", "the gzip data end in the middle"),
        (
            json.dumps([flat(subject="Zoë")], ensure_ascii=False).encode("latin-1"),
            "encoding",
            "record 0, field 'subject'",
        ),
        (b"", "file", "holds no records"),
    ],
)
def test_a_file_that_breaks_off_is_a_problem_too(tmp_path, content, kind, message):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    report = check_file(path)
    assert list(report.problems) == [kind]
    assert message in report.offenders[0].message


def test_the_command_prints_the_first_ten_and_fails(tmp_path, capsys):
    rows = [person(number, target_new="Velmora") for number in range(25)]
    assert main(["check", str(write(tmp_path, rows))]) == 1
    out, err = capsys.readouterr()
    assert "        25  target: the new target equals the true one" in out
    lines = err.splitlines()
    assert lines[0] == "the first 10 of 25 problems:"
    assert len(lines) == 1 + SHOWN
    assert "record 9" in lines[-1]


def test_no_file_is_a_usage_error(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert main(["check", str(tmp_path / "gone.json")]) == 2
    assert main(["frobnicate"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "is a folder" in lines[0]
    assert "gone.json: no such file" in lines[1]


@pytest.mark.parametrize("text", ["Zoë", "naïve café", "Škoda", "北京", "Ãland is no mistake", "50 °C", "a\tb\nc"])
def test_text_that_is_meant_as_it_stands_is_no_fault(text):
    assert encoding_fault(text) is None


@needs_data
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("counterfact_rome_genuine_20.jsonl.gz", 20),
        ("counterfact_flat.jsonl.gz", 21_919),
        ("counterfact_rome_rebuilt.jsonl.gz", 21_919),
    ],
)
def test_no_false_alarms_on_the_published_records(name, count):
    report = check_file(SHARED / name)
    assert report.ok, report.offenders
    assert report.counts["records"] == count
