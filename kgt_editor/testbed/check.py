"""Measure a testbed model's abilities.

    python -m kgt_editor.testbed.check --model testbed-gpt2

prints JSON: ability -> share in 0..1, and under ``shortfalls`` what is below the figure a shipped model must reach.
Exit code 0 if nothing is, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from kgt_editor.errors import KgtError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kgt_editor.testbed.check", description=__doc__)
    parser.add_argument("--model", default="testbed-gpt2", help="a shipped model or a folder (default %(default)s)")
    parser.add_argument("--sample", type=int, help="only so many facts (default: all of the world)")
    parser.add_argument("--seed", type=int, default=0, help="draws the facts in the contexts (default %(default)s)")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    try:
        return _check(args)
    except KgtError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def _check(args: argparse.Namespace) -> int:
    from rich.console import Console

    from kgt_editor.data import world
    from kgt_editor.lm.loading import load_model
    from kgt_editor.testbed.abilities import measure, shortfalls

    book = world.book()
    if args.sample is not None and not 1 <= args.sample <= len(book.facts):
        raise UsageError(f"--sample {args.sample}: give a number from 1 to {len(book.facts)}")
    model, tok = load_model(args.model, args.device)
    with Console(stderr=True).status("measuring") as status:
        found = measure(model, tok, book, args.sample, args.seed, lambda name: status.update(f"measuring {name}"))
    short = shortfalls(found)
    report = {
        "model": args.model, "facts": args.sample or len(book.facts), "seed": args.seed, "abilities": found,
        "shortfalls": short,
    }  # fmt: skip
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
