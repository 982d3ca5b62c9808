"""Reading: every layout gives the same rows, and every way a file can be broken is one line that says where."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from itertools import islice

import pytest
from data_builders import PRINT_PEAK

from kgt_editor.data import reading
from kgt_editor.data.reading import read_document, read_rows
from kgt_editor.errors import UsageError

ROWS = [{"subject": f"Zoë {number}", "note": "ä" * number} for number in range(40)]


def layouts():
    compact = json.dumps(ROWS, ensure_ascii=False)
    yield "list", compact
    yield "escaped list", json.dumps(ROWS)
    yield "indented list", json.dumps(ROWS, indent=2, ensure_ascii=False)
    yield "lines", "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    yield "lines with gaps and CRLF", "\r\n\r\n".join(json.dumps(row) for row in ROWS) + "\r\n"


@pytest.mark.parametrize("chunk", [7, 2**20])
@pytest.mark.parametrize("bom", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", dict(layouts()))
def test_every_layout_gives_the_same_rows(tmp_path, monkeypatch, layout, zipped, bom, chunk):
    text = dict(layouts())[layout]
    monkeypatch.setattr(reading, "_CHUNK", chunk)
    raw = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    path = tmp_path / "rows"
    path.write_bytes(gzip.compress(raw, mtime=0) if zipped else raw)
    found = list(read_rows(path))
    assert [row for _, row in found] == ROWS
    assert found[17][0].endswith("record 17")


def write(folder, content):
    path = folder / "rows.json"
    path.write_bytes(content)
    return path


def broken_list(number, replacement):
    parts = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
    parts[number] = replacement
    return b"[" + b",\n".join(parts) + b"]"


def broken_lines(number, replacement):
    parts = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
    parts[number] = replacement
    return b"\n".join(parts)


LATIN = '{"subject": "Zoë"}'.encode("latin-1")


@pytest.mark.parametrize("chunk", [7, 2**20])
@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["holds no records"]),
        (b" \n\t\n", ["holds no records"]),
        (b"[]", ["holds no records"]),
        (b"\xef\xbb\xbf", ["holds no records"]),
        (gzip.compress(b"", mtime=0), ["holds no records"]),
        (broken_list(17, LATIN), ["record 17, field 'subject'", "not UTF-8", "0xeb"]),
        (broken_lines(17, LATIN), ["line 18, record 17, field 'subject'", "not UTF-8", "0xeb"]),
        (json.dumps(ROWS).encode("utf-16"), ["record 0", "not UTF-8"]),
        (broken_list(17, b'{"subject": "x",}'), ["line 18, column 17", "not valid JSON"]),
        (broken_lines(17, b'{"subject": "x",}'), ["line 18, column 17", "not valid JSON"]),
        (broken_list(17, b'{"subject": "x"} {}'), ["line 18", "Expecting ',' or ']'"]),
        (json.dumps(ROWS).encode()[:-1], ["Expecting ',' or ']'"]),
        (json.dumps(ROWS).encode() + b"]", ["Extra data"]),
        (broken_list(17, b"[" * 100_000), ["record 17", "not usable JSON"]),
        (broken_lines(17, b"[" * 100_000), ["line 18", "not usable JSON"]),
        (broken_list(17, b"9" * 5000), ["record 17", "not usable JSON"]),
        (gzip.compress(json.dumps(ROWS).encode(), mtime=0)[:-9], ["the gzip data end in the middle"]),
        (gzip.compress(b"\n".join(b"{}" for _ in range(30)), mtime=0)[:-8], ["the gzip data end in the middle"]),
        (b"\x1f\x8bnot really", ["record 0", "the gzip data are damaged"]),
    ],
)
def test_a_broken_file_names_record_or_line_and_field(tmp_path, monkeypatch, content, parts, chunk):
    monkeypatch.setattr(reading, "_CHUNK", chunk)
    path = write(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        list(read_rows(path))
    message = str(caught.value)
    assert message.startswith(f"{path}")
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []


def test_what_stands_before_the_break_is_read(tmp_path):
    rows = read_rows(write(tmp_path, broken_list(17, LATIN)))
    assert [row for _, row in islice(rows, 17)] == ROWS[:17]
    with pytest.raises(UsageError, match="record 17"):
        next(rows)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
@pytest.mark.parametrize("opening", [b'[{"subject": "', b'{"subject": "', b"[1, ["])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_line_without_end_is_refused_within_bounded_memory(tmp_path, opening, zipped):
    path = tmp_path / "long.json"
    if zipped:
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(opening)
            for _ in range(256):
                file.write(b"1," * 2**19)
    else:
        with path.open("wb") as file:
            file.write(opening)
            file.truncate(2 * 2**30)  # sparse: two gigabytes of NUL that cost no disk
    code = (
        "import sys\n"
        "from kgt_editor.data.reading import read_rows\n"
        "try:\n    list(read_rows(sys.argv[1]))\n"
        "except Exception as error:\n    print(error)\n"
    ) + PRINT_PEAK
    found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    message, peak = found.stdout.splitlines()
    assert message.startswith(str(path))
    assert "longer than 16 MiB" in message or "not valid JSON" in message
    assert "record" in message or "line 1" in message
    assert int(peak) < 300e6


@pytest.mark.parametrize("read", [lambda path: list(read_rows(path)), read_document])
def test_a_folder_and_a_missing_file_are_named(tmp_path, read):
    with pytest.raises(UsageError, match="is a folder; give the file in it"):
        read(tmp_path)
    with pytest.raises(UsageError, match=r"gone\.json: no such file"):
        read(tmp_path / "gone.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read("a\0b")


def test_a_document_is_read_whole(tmp_path):
    assert read_document(write(tmp_path, json.dumps({"a": [1]}, indent=1).encode())) == {"a": [1]}
    with pytest.raises(UsageError, match="is empty"):
        read_document(write(tmp_path, b" "))
    with pytest.raises(UsageError, match="line 2, column 1: not valid JSON"):
        read_document(write(tmp_path, b'{"a":\n}'))
    with pytest.raises(UsageError, match="the gzip data end in the middle"):
        read_document(write(tmp_path, gzip.compress(b'{"a": 1}', mtime=0)[:-8]))
