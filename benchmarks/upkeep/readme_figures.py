"""Write the tables of README and docs from the committed results, so that no figure in them is typed.

    python benchmarks/upkeep/readme_figures.py            # rewrites the pages
    python benchmarks/upkeep/readme_figures.py --check    # exit code 1 where one differs

A block stands between ``<!-- figures: NAME ARGUMENTS -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable

import tables_of_measures as measures
import tables_of_runs as runs
from tables_common import ROOT

BLOCK = re.compile(r"(<!-- figures: ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
RENDER: dict[str, Callable[..., str]] = {
    "runs": runs.runs, "before_after": runs.before_after, "abilities": runs.abilities, "known": runs.known,
    "report": runs.report, "scale": runs.scale, "real": runs.real, "kinds": runs.kinds,
    "conflicts": measures.conflicts, "cost": measures.cost, "users_together": measures.users_together,
    "recall": measures.recall, "easyedit": measures.easyedit, "after": measures.after, "named": measures.named,
    "told_apart": measures.told_apart, "corrections": measures.corrections,
}  # fmt: skip


def fill(text: str) -> str:
    """The text with every block made anew."""

    def block(found: re.Match[str]) -> str:
        name, *arguments = found[2].split()
        return found[1] + RENDER[name](*arguments) + found[3]

    return BLOCK.sub(block, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        old = path.read_text(encoding="utf-8")
        new = fill(old)
        stale += new != old
        if not check:
            path.write_text(new, encoding="utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
