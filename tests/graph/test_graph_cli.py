"""``python -m kgt_editor.graph``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kgt_editor.cli.graph import main
from kgt_editor.errors import UsageError
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple

DUMP = (
    '/a/1\t/r/IsA\t/c/en/hot_dog/n\t/c/en/sandwich\t{"weight": 1.0}\n'
    '/a/2\t/r/AtLocation\t/c/en/hot_dog\t/c/en/game\t{"weight": 2.5}\n'
    '/a/3\t/r/IsA\t/c/fr/chien\t/c/fr/animal\t{"weight": 1.0}\n'
)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    graph = PersonalGraph(MemoryGraph(), Journal(path), "ada")
    graph.commit("What does it eat?", "fish", [Triple("dog", "eats", "fish")], before=0.1, after=0.9)
    graph.add(Triple("dog", "is", "small"))
    PersonalGraph(MemoryGraph(), Journal(path), "bob").add(Triple("cat", "is", "large"))
    return path


def test_build_info_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump, graph = tmp_path / "dump.csv", tmp_path / "en.db"
    dump.write_text(DUMP, encoding="utf-8")
    code, out, err = run(capsys, "build", "--conceptnet", dump, "--lang", "en", "--out", graph)
    assert (code, err) == (0, "")
    assert "2 triples of 1 heads" in out
    assert "skipped 1 rows: another language" in out
    assert run(capsys, "info", graph) == (0, out, "")
    expected = "hot dog\tis located at\tgame\t2.5\nhot dog\tis a\tsandwich\t1\n"
    assert run(capsys, "show", graph, "hot dog") == (0, expected, "")
    assert run(capsys, "show", graph, "hot dog", "--limit", 1)[1] == expected.splitlines(keepends=True)[0]
    code, _, err = run(capsys, "show", graph, "Hot Dog")
    assert code == 2
    assert "nothing starts at 'Hot Dog'; did you mean 'hot dog'?" in err


def test_build_from_tab_separated_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "facts.tsv").write_text("Ada\tP103(native language)\tNorrish\nAda\n", encoding="utf-8")
    assert run(capsys, "build", "--tsv", tmp_path / "facts.tsv", "--out", tmp_path / "g.db")[0] == 0
    assert run(capsys, "show", tmp_path / "g.db", "Ada")[1] == "Ada\thas native language\tNorrish\t1\n"


def test_users_history_undo(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "users", journal)
    assert (code, [line.split("\t")[:2] for line in out.splitlines()]) == (
        0,
        [["ada", "2 entries"], ["bob", "1 entry"]],
    )
    code, out, _ = run(capsys, "undo", journal, "--user", "ada", "--edit", 1)
    assert code == 0
    assert out.startswith("taken back: 1 ")
    out = run(capsys, "history", journal, "--user", "ada")[1]
    lines = [line for line in out.splitlines() if " UTC" not in line]
    assert lines[0].endswith("'What does it eat?' -> 'fish'  P 0.1 -> 0.9  (taken back by 3)")
    assert lines[1].strip() == "+ dog | eats | fish"
    assert lines[-1].endswith("takes back 1")
    assert PersonalGraph(MemoryGraph(), Journal(journal), "ada").added == [Triple("dog", "is", "small")]


def test_export_and_forget(journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "export", journal, "--user", "ada")
    assert (code, json.loads(out)["user"]) == (0, "ada")
    assert run(capsys, "export", journal, "--user", "ada", "--out", tmp_path / "ada.json") == (0, "", "")
    assert (tmp_path / "ada.json").read_text(encoding="utf-8") == out
    out = run(capsys, "export", journal, "--user", "ada", "--format", "ntriples")[1]
    assert "<urn:x-kgt:entity:dog> <urn:x-kgt:relation:eats> <urn:x-kgt:entity:fish> .\n" in out
    code, out, _ = run(capsys, "forget", journal, "--user", "ada")
    assert (code, out) == (0, f"'ada' is gone from {journal}\n")
    assert b"fish" not in journal.read_bytes()
    code, _, err = run(capsys, "history", journal, "--user", "ada")
    assert (code, "no user 'ada'; 'kgt graph users" in err, "bob" in err) == (2, True, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["grow"], "invalid choice: 'grow'"),
        (["build", "--out", "x.db"], "one of the arguments --conceptnet --tsv --mquake is required"),
        (["build", "--tsv", "x.tsv", "--lang", "en", "--out", "x.db"], "--lang chooses among ConceptNet's terms"),
        (["build", "--tsv", "none.tsv", "--out", "x.db"], "none.tsv: no such file"),
        (["info", "none.db"], "none.db: no such file"),
        (["show", "none.db", "dog", "--limit", "0"], "must be a whole number above zero, not '0'"),
        (["show", "none.db", "dog", "--limit", str(2**63)], "must be 9223372036854775807 at most"),
        (["undo", "none.db", "--user", "ada", "--edit", "9" * 5000], "must be 9223372036854775807 at most"),
        (["users", "none.db"], "none.db: no such file"),
        (["forget", "none.db", "--user", "ada"], "none.db: no such file"),
    ],
)
def test_a_wrong_request_ends_with_one_line_and_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError):
        main([*arguments, "--debug"])


def test_a_build_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "facts.tsv"
    source.write_text("".join(f"dog {number}\tIsA\tpet\n" for number in range(400_000)), encoding="utf-8")
    command = [sys.executable, "-m", "kgt_editor.graph", "build", "--tsv", str(source), "--out", str(tmp_path / "g.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as builder:
        while not list(tmp_path.glob(".g.db.*.part")):
            assert builder.poll() is None
        builder.terminate()
        out, err = builder.communicate()
    assert (builder.returncode, out, err) == (130, "", "python -m kgt_editor.graph: interrupted\n")
    assert list(tmp_path.iterdir()) == [source]


def test_it_runs_as_a_module_without_torch(journal: Path) -> None:
    script = (
        "import runpy, sys; sys.argv = ['graph', 'users', sys.argv[1]]\n"
        "try: runpy.run_module('kgt_editor.graph', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, str(journal)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ada\t2 entries\t")


@pytest.mark.parametrize("kind", ["journal", "text", "folder"])
def test_build_replaces_nothing_but_a_base_graph(
    tmp_path: Path, journal: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    facts, text, folder = tmp_path / "facts.tsv", tmp_path / "notes.txt", tmp_path / "folder"
    facts.write_text("Ada\tspeaks\tNorrish\n")
    text.write_text("not to be lost\n")
    folder.mkdir()
    out = {"journal": journal, "text": text, "folder": folder}[kind]
    before = b"" if kind == "folder" else out.read_bytes()
    code, _, err = run(capsys, "build", "--tsv", facts, "--out", out)
    assert code == 2
    assert str(out) in err
    assert "not a file" in err if kind == "folder" else "it would be replaced: give another --out, or --force" in err
    if kind != "folder":
        assert out.read_bytes() == before
        assert run(capsys, "build", "--tsv", facts, "--out", out, "--force")[0] == 0
        assert run(capsys, "build", "--tsv", facts, "--out", out)[0] == 0  # a base graph now


def test_build_never_replaces_its_own_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = tmp_path / "facts.tsv"
    facts.write_text("Ada\tspeaks\tNorrish\n")
    for force in ([], ["--force"]):
        code, _, err = run(capsys, "build", "--tsv", facts, "--out", facts, *force)
        assert (code, "the very file that is read; give another" in err) == (2, True)
    assert facts.read_text() == "Ada\tspeaks\tNorrish\n"


def test_names_are_printed_without_anything_a_terminal_would_obey(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, name = tmp_path / "journal.db", "\x1b[2Jada\nbob\u202e"
    PersonalGraph(MemoryGraph(), Journal(path), name).add(Triple("cat", "is", "large"))
    code, out, _ = run(capsys, "users", path)
    assert (code, out.split("\t")[0]) == (0, r"\x1b[2Jada\nbob\u202e")
    assert "\x1b" not in run(capsys, "history", path, "--user", "\x1b[2J")[2]


def test_a_reader_that_has_had_enough_and_a_full_disk_end_it_without_a_traceback(journal: Path) -> None:
    command = [sys.executable, "-m", "kgt_editor", "graph", "history", str(journal), "--user", "ada"]
    piped = subprocess.run(
        ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "-", *command], capture_output=True, text=True, check=False
    )
    assert (piped.returncode, piped.stderr) == (0, "")
    full = subprocess.run(
        ["bash", "-c", '"$@" > /dev/full', "-", *command], capture_output=True, text=True, check=False
    )
    assert (full.returncode, full.stderr.count("\n")) == (1, 1)
    assert "the output cannot be written: No space left on device" in full.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("users", "x" * 300), 1, "File name too long"),
        (("history", "x" * 300 + "/journal.db", "--user", "ada"), 1, "File name too long"),
        (("build", "--tsv", "", "--out", "base.db"), 2, "--tsv: empty; give it a value or leave it out"),
        (("build", "--tsv", "none.tsv", "--out="), 2, "--out: empty; give it a value or leave it out"),
        (("info", ""), 2, "info: empty; give it a value or leave it out"),
    ],
)
def test_a_path_that_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert main(list(arguments)) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert len(line) < 300


def test_verify_says_whether_a_base_graph_is_as_it_was_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "facts.tsv").write_text("Ada\tP103\tNorrish\n", encoding="utf-8")
    graph = tmp_path / "g.db"
    assert run(capsys, "build", "--tsv", tmp_path / "facts.tsv", "--out", graph)[0] == 0
    assert run(capsys, "verify", graph) == (0, f"{graph}: 1 triples are as they were built\n", "")
    damaged = bytearray(graph.read_bytes())
    damaged[damaged.index(b"Norrish")] ^= 1
    graph.write_bytes(damaged)
    for command in (["verify", graph], ["show", graph, "Ada"]):
        code, out, err = run(capsys, *command)
        assert (code, out) == (1, "")
        assert "not as it was built" in err


@pytest.mark.parametrize("command", ["users", "verify", "history"])
def test_an_empty_file_is_no_journal_and_stays_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    assert main([command, str(empty), *(["--user", "ada"] if command == "history" else [])]) == 2
    assert capsys.readouterr().err == f"kgt graph: {empty}: an empty file, no journal\n"
    assert empty.stat().st_size == 0


@pytest.mark.parametrize("kind", ["--conceptnet", "--tsv"])
def test_a_source_without_a_triple_builds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    source, out = tmp_path / "source", tmp_path / "out.db"
    source.write_text("once upon a time\n")
    assert main(["build", kind, str(source), "--out", str(out)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"kgt graph: {source}: no triple in it (skipped 1 rows: ")
    assert list(tmp_path.iterdir()) == [source]
