"""LaTeX takes the tables: tectonic, or pdflatex of Debian's texlive-latex-recommended; on request.

What is in a float is read without it.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from kgt_editor import reporting

COMPILER = next((found for found in map(shutil.which, ("tectonic", "pdflatex")) if found), None)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="neither tectonic nor pdflatex on this machine")
def test_the_tables_compile(builder, tmp_path):
    nasty = r"a_b & 100% $x$ #{\o} ~^ <ü>"
    editors = ("none", "kgt", "rome", nasty, "ke", "mend")
    folder = builder.write_run(tmp_path / "run", editors=editors, size=5, model=nasty)
    report = reporting.write_report([folder], formats=["tex"])
    inputs = "".join(f"\\input{{{path}}}\n" for path in report.files)
    document = (
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n" + inputs + "\\end{document}\n"
    )
    (tmp_path / "all.tex").write_text(document, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in COMPILER else []
    done = subprocess.run([COMPILER, *options, "all.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_a_float_has_its_own_label_and_the_meaning_of_its_columns_and_no_second_number(builder, tmp_path):
    folder = builder.write_run(tmp_path / "run", size=5, kept=True, sizes=(5,))
    report = reporting.write_report([folder], formats=["tex"])
    labels = []
    for path in report.files:
        text = path.read_text(encoding="utf-8")
        floats = re.findall(r"\\begin\{table\}.*?\\end\{table\}", text, re.DOTALL)
        outside = re.sub(r"\\begin\{table\}.*?\\end\{table\}", "", text, flags=re.DOTALL)
        assert not [line for line in outside.splitlines() if line and not line.startswith("%")]
        assert len(floats) >= 3
        for one in floats:
            (caption,) = re.findall(r"\\caption\{(.*)\}", one)
            assert not caption.startswith("Table")
            (label,) = re.findall(r"\\label\{tab:(.*)\}", one)
            labels.append(label)
            (line,) = (line for line in one.splitlines() if line.startswith("Editor & "))
            heads = [head.partition(r" (\%)")[0].rstrip("\\ ") for head in line.split(" & ")[1:]]
            below = one.partition("\\end{tabular}")[2]
            assert [head for head in heads if f"{head}: " not in below] == []
    assert len(set(labels)) == len(labels)
