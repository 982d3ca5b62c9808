"""Rows of a base graph from ConceptNet's assertion dumps and from tab-separated text.

ConceptNet 5 (Speer, Chin and Havasi, 2017, arXiv 1612.03975) publishes one assertion a line: its URI, relation,
start, end and a JSON object with the weight, parted by tabs. Rows that cannot be used are skipped and counted.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

from kgt_editor.errors import UsageError
from kgt_editor.graph.build import Row
from kgt_editor.graph.relations import verbalise
from kgt_editor.graph.triple import MAX_CHARACTERS

#: Told how many bytes of the file have been read, of how many.
Progress = Callable[[int, int], None]

_TELL_EVERY = 50_000  # lines
#: Bytes; ConceptNet's longest have some thousand. A file of zeros unpacks to one line without an end.
LONGEST_LINE = 1_000_000
_verbalise = lru_cache(maxsize=10_000)(verbalise)


class Skipped(Exception):
    """A row that is not taken, and why."""


def conceptnet_rows(lines: Iterable[bytes], lang: str | None, skipped: Counter[str]) -> Iterator[Row]:
    """Rows of a ConceptNet 5 assertion dump.

    Terms lose their part of speech and sense ("/c/en/hot_dog/n" -> "hot dog"), relations are verbalised.

    Args:
        lines: the dump's lines.
        lang: take only assertions with both terms in this language (ConceptNet's code, "en"); None takes all.
        skipped: counts here what is left out, by reason.
    """
    concept = b"/c/" if lang is None else f"/c/{lang}/".encode()

    def row(line: bytes) -> Row:
        parts = line.rstrip(b"\r\n").split(b"\t")
        if len(parts) != 5:
            raise Skipped("not five columns")
        _, relation, start, end, details = parts
        if not (start.startswith(concept) and end.startswith(concept)):
            foreign = start.startswith(b"/c/") and end.startswith(b"/c/")
            raise Skipped("another language" if foreign else "not a concept")
        try:
            weight = float(json.loads(details)["weight"])
        except (ValueError, KeyError, TypeError):
            raise Skipped("no weight") from None
        return _checked(_term(start), _verbalise(relation.decode()), _term(end), weight)

    return _rows(lines, row, skipped)


def _term(uri: bytes) -> str:
    parts = uri.decode().split("/", 4)
    return " ".join(parts[3].replace("_", " ").split()) if len(parts) > 3 else ""


def tsv_rows(lines: Iterable[bytes], skipped: Counter[str]) -> Iterator[Row]:
    """Rows of ``head<TAB>relation<TAB>tail[<TAB>weight]`` lines.

    A missing or empty weight counts as 1, further columns are left alone, relations are verbalised. Empty lines,
    lines that begin with ``#`` and a header line (head, relation, tail) are no rows.

    Args:
        lines: the file's lines.
        skipped: counts here what is left out, by reason.
    """

    def row(line: bytes) -> Row | None:
        text = line.decode()
        if not text.strip() or text.startswith("#"):
            return None
        parts = [" ".join(part.split()) for part in text.split("\t")]
        if len(parts) < 3:
            raise Skipped("fewer than three columns")
        if [part.lower() for part in parts[:3]] == ["head", "relation", "tail"]:
            return None
        try:
            weight = float(parts[3]) if len(parts) > 3 and parts[3] else 1.0
        except ValueError:
            weight = math.nan
        return _checked(parts[0], _verbalise(parts[1]), parts[2], weight)

    return _rows(lines, row, skipped)


def _checked(head: str, relation: str, tail: str, weight: float) -> Row:
    if not (head and relation and tail):
        raise Skipped("an empty part")
    if max(len(head), len(relation), len(tail)) > MAX_CHARACTERS:
        raise Skipped(f"a part of more than {MAX_CHARACTERS} characters")
    if not math.isfinite(weight):
        raise Skipped("the weight is not a number")
    if weight < 0:
        raise Skipped("a negative weight")
    if head == tail:
        raise Skipped("head and tail are the same")
    return head, relation, tail, weight


def _rows(lines: Iterable[bytes], parse: Callable[[bytes], Row | None], skipped: Counter[str]) -> Iterator[Row]:
    for line in lines:
        try:
            row = parse(line)
        except UnicodeDecodeError:
            skipped["not UTF-8"] += 1
        except Skipped as reason:
            skipped[str(reason)] += 1
        else:
            if row is not None:
                yield row


def read_lines(path: str | Path, progress: Progress | None = None) -> Iterator[bytes]:
    """The lines of a file, unpacked where it is gzipped (by its first bytes).

    Raises:
        UsageError: the file is missing, unreadable, or its compressed data are cut off or damaged; or a line has
            more than ``LONGEST_LINE`` bytes.
    """
    source = Path(path)
    try:
        with source.open("rb") as raw:
            total = source.stat().st_size
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                if len(line) > LONGEST_LINE:
                    raise UsageError(
                        f"{source}, line {number}: more than {LONGEST_LINE:,} bytes; not a list of triples"
                    )
                yield line
                if progress is not None and number % _TELL_EVERY == 0:
                    progress(raw.tell(), total)
            if progress is not None:
                progress(total, total)
    except FileNotFoundError:
        raise UsageError(f"{source}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(
            f"{source}: the compressed data are cut off or damaged ({error}); fetch the file again"
        ) from None
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror}") from None
