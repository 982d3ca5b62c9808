"""Calls every command line with bad arguments: is each refused in a line, without a traceback and without much memory?

    OMP_NUM_THREADS=1 python benchmarks/measure/bad_calls.py --calls 2000 --out results/harness/bad_calls.json

Commands and options are drawn from the parsers themselves, values from what people and scripts get wrong: words that
are no choice, numbers that are none or have a thousand digits, files that are missing, empty, folders, damaged, cut off
or of another kind. Every call has at least one such value, runs in a process of its own, and has to end with exit code
1 or 2; a call that is accepted all the same is counted and named, one that works for longer than a minute is ended.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from kgt_editor import __main__ as kgt
from kgt_editor.commands import json_report, positive
from kgt_editor.errors import UsageError

SECONDS = 60
MOST_BYTES = 2**30
NUMBERS = ("-1", "0", "1.5", "nan", "inf", "1e9", "9" * 1000, "0x10", "zwei", "\u0664", "--", " 3")
WORDS = (
    "nosuch",
    "kgt:nosuch",
    "a" * 300,
    "\u202e",
    "../..",
    "=",
    "kgt.K=x",
    "kgt.nosuch=1",
    "null",
    "[",
    "\x1b[31m",
    "%s",
)
# What makes a call of these bad for certain, where it would else begin to work.
CERTAIN = {
    "compare": (["--editors", "nosuch"], ["--size", "0"], ["--seeds", "-1"], ["--set", "kgt.nosuch=1"],
                ["--set", "kgt.K=x"], ["--hparams", "{missing}"], ["--model", "{text}"], ["--model", "{folder}"],
                ["--dataset", "nosuch"], ["--dataset", "counterfact", "--data", "{file}"],
                ["--dataset", "knowedit", "--data", "{file}"], ["--device", "tpu"], ["--order", "{file}"],
                ["--out", "{text}"]),
    "paper": (["--profile", "nosuch"], ["--out", "{text}"], ["--nosuch"]),
    "calibrate": (["--model", "{text}"], ["--model", "{folder}"], ["--model", "testbed-gpt2", "--records", "nosuch"],
                  ["--model", "testbed-gpt2", "--set", "nosuch=1"],
                  ["--model", "testbed-gpt2", "--records", "counterfact={file}"]),
    "chat": (["--journal", "{file}"], ["--model", "{text}"], ["--nosuch"]),
    "serve": (["--journal", "{file}"], ["--port", "70000"], ["--host", "nosuch.invalid"]),
    "mcp": (["--journal", "{file}"], ["--model", "{folder}"], ["--nosuch"]),
    "report": (["{file}"], ["{missing}"], ["--formats", "nosuch", "."]),
}  # fmt: skip
_LEFT_OUT = ("--list", "-h", "--help", "--debug")


def files(folder: Path, rng: random.Random) -> list[str]:
    """Files that no command takes, by what is wrong with them."""
    made: dict[str, bytes] = {
        "empty": b"",
        "text.json": b"once upon a time",
        "numbers.json": b"[1, 2, 3]",
        "deep.json": b"[" * 100_000,
        "object.json": b'{"subject": 1, "requested_rewrite": []}',
        "rows.jsonl": b'{"case_id": 1e999}\n{"case_id": -1}\n',
        "huge.json": b'[{"case_id": ' + b"9" * 10_000 + b"}]",
        "bytes.bin": rng.randbytes(4096),
        "cut.json.gz": gzip.compress(b"[" + b'{"a": 1},' * 1000)[:-40],
        "journal.db": b"SQLite format 3\x00" + rng.randbytes(8192),
        "bomb.yaml": b"a: &a [x]\n"
        + b"".join(b"%c: &%c [*%c,*%c]\n" % (98 + n, 98 + n, 97 + n, 97 + n) for n in range(20)),
        "facts.tsv": b"a\tb\n\t\t\t\n",
        "manifest.json": b'{"schema_version": "x"}',
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "run").mkdir()
    (folder / "run" / "manifest.json").write_bytes(b'{"schema_version": 5, "config": []}')
    (folder / "loop").symlink_to(folder / "loop")
    others = ("folder", "run", "loop", "missing", "x" * 300, "empty/inside")
    return [str(folder / name) for name in (*made, *others)] + ["/dev/null", "/dev/full"]


def parsers() -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """Every command line by its words."""
    found: dict[tuple[str, ...], argparse.ArgumentParser] = {}
    for word, (module, _) in kgt.COMMANDS.items():
        parser = import_module(module).build_parser()
        below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        if below:
            found |= {(word, name): leaf for name, leaf in below[0].choices.items()}
        else:
            found[word,] = parser
    return found


def call(words: tuple[str, ...], parser: argparse.ArgumentParser, bad: list[str], rng: random.Random) -> list[str]:
    """A call with something wrong in it."""

    def value(action: argparse.Action) -> str:
        if action.choices is not None:
            return rng.choice([*map(str, action.choices), *WORDS])
        if action.type is Path:
            return rng.choice(bad)
        return rng.choice(NUMBERS if action.type in (int, float, positive) else [*WORDS, *bad])

    said = list(words)
    options = [one for one in parser._actions if one.option_strings and not set(one.option_strings) & set(_LEFT_OUT)]
    for action in options:
        if rng.random() < (0.9 if action.required else 0.25):
            said.append(action.option_strings[-1])
            said += [value(action)] if action.nargs != 0 else []
    places = [one for one in parser._actions if not one.option_strings]
    said += [value(one) for one in places if rng.random() < 0.9]
    if words[0] in CERTAIN:
        texts = {"{missing}": bad[0] + ".none", "{text}": bad[1], "{folder}": str(Path(bad[0]).parent / "folder")}
        certain = rng.choice(CERTAIN[words[0]])
        said += [rng.choice(bad) if word == "{file}" else texts.get(word, word) for word in certain]
    elif not places and not any(one.required for one in options):
        said.append("--nosuch")
    return said


def outcome(said: list[str], log: Path) -> dict[str, Any]:
    """Make the call in a process of its own: how it ended, what it said, and the most memory it had."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with log.open("wb") as output:
                for descriptor in (1, 2):
                    os.dup2(output.fileno(), descriptor)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", errors="replace") for descriptor in (1, 2))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            try:
                code = kgt.main(said)
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    text = log.read_text(encoding="utf-8", errors="replace")
    ended = "timeout" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM else None
    if ended is None:
        ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return {"ended": ended, "traceback": "Traceback (most recent" in text, "bytes": used.ru_maxrss * 1024, "text": text}


def drawn(calls: int, seed: int, folder: Path) -> Iterator[list[str]]:
    """The calls, the same for the same seed but for the folder."""
    rng = random.Random(seed)
    bad = files(folder, rng)
    known = list(parsers().items())
    for number in range(calls):
        yield call(*known[number % len(known)], bad, rng)


def measure(calls: int, seed: int) -> dict[str, Any]:
    """Make the calls.

    Returns:
        how many ended how, and every one that did not end as it should.

    Raises:
        UsageError: this system has no fork.
    """
    if not hasattr(os, "fork"):
        raise UsageError("needs fork, which this system does not have")
    import torch  # so that a call does not import it anew
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    ends: Counter[str] = Counter()
    wrong: list[dict[str, Any]] = []
    most = 0
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "files").mkdir()
        (folder / "here").mkdir()
        os.chdir(folder / "here")  # what a call writes, it writes there
        try:
            listed = list(drawn(calls, seed, folder / "files"))
            for said in track(listed, "calls", console=Console(stderr=True), disable=not sys.stderr.isatty()):
                found = outcome(said, folder / "log")
                ends[str(found["ended"])] += 1
                most = max(most, found["bytes"])
                if found["traceback"] or found["ended"] not in (1, 2) or found["bytes"] > MOST_BYTES:
                    shown = [word.replace(name, "") for word in said]
                    last = found["text"].strip().splitlines()[-1:] or [""]
                    wrong.append(
                        {"call": shown, **{k: found[k] for k in ("ended", "traceback", "bytes")}, "said": last[0][:300]}
                    )
        finally:
            os.chdir(home)
    return {
        "schema_version": 1,
        "calls": calls,
        "seed": seed,
        "command lines": len(parsers()),
        "ended": dict(sorted(ends.items())),
        "tracebacks": sum(one["traceback"] for one in wrong),
        "most bytes": most,
        "bytes of this process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "accepted": [one["call"] for one in wrong if one["ended"] == 0 and not one["traceback"]],
        "wrong": [one for one in wrong if one["ended"] != 0 or one["traceback"]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=positive, default=2000, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="for the JSON, which is printed in any case")
    args = parser.parse_args()
    return json_report(lambda: measure(args.calls, args.seed), args.out and args.out.resolve())


if __name__ == "__main__":
    sys.exit(main())
