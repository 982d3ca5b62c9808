"""The Python examples of the README and the docs run as they are printed; their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kgt_editor.editors.easyedit.loading import find

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    example
    for page in PAGES
    for example in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs_and_prints_what_it_says(example: str, tmp_path: Path) -> None:
    if example.startswith("# needs EasyEdit") and find() is None:
        pytest.skip("no EasyEdit: name a clone in EASYEDIT_HOME")
    (tmp_path / "hparams").symlink_to(ROOT / "hparams")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in example.splitlines():
        told = re.search(r"^print\(.*\)  # (\w+)$", line)
        if told:
            assert told[1] in done.stdout.splitlines()


def test_its_tables_are_those_of_the_committed_results() -> None:
    script = ROOT / "benchmarks" / "upkeep" / "readme_figures.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 12_288


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_its_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, place = target.partition("#")
        assert (page.parent / file).exists(), target
        assert file or place in headings, target
