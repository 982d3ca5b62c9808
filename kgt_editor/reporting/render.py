"""Tables as Markdown, LaTeX, CSV and HTML. Every text that came from a run is escaped."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from itertools import groupby

from kgt_editor.reporting import names
from kgt_editor.reporting.names import NOTHING, editor_label
from kgt_editor.reporting.tables import Block, Cell, Table

_UNITS = {"share": " (%)"}


def heading(measure: str) -> str:
    """A column's heading with its unit."""
    found = names.measure(measure)
    return found.label + _UNITS.get(found.unit, "")


def _groups(block: Block) -> list[tuple[str, int]]:
    return [(model, len(list(columns))) for model, columns in groupby(block.columns, key=lambda column: column[0])]


def to_markdown(table: Table) -> str:
    """All blocks as pipe tables, the definitions below."""
    parts = [f"## {_md(table.title)}"]
    for block in (*table.blocks, table.reported):
        many = len(_groups(block)) > 1
        headings = [_md(f"{model}: {heading(name)}" if many else heading(name)) for model, name in block.columns]
        rows = [["editor", *headings], ["---", *["---:"] * len(headings)]]
        for editor, cells in zip(block.editors, block.cells, strict=True):
            shown = [f"**{_md(cell.text)}**" if cell.best else _md(cell.text) for cell in cells]
            rows.append([_md(editor_label(editor)), *shown])
        single = "" if many or "beyond" in block.caption else f" {_md(block.columns[0][0])}:"
        parts.append(f"{_md(block.caption[:1].upper() + block.caption[1:])}.{single}")
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    parts.append("\n".join(f"- {_md(note)}" for note in table.notes))
    return "\n\n".join(parts) + "\n"


def _md(text: str) -> str:
    return html.escape(re.sub(r"([\\|*_`\[\]])", r"\\\1", text), quote=False)


_TEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    NOTHING: "--",
}


def tex(text: str) -> str:
    """Text for LaTeX; characters its usual fonts lack become question marks."""
    return "".join(_TEX.get(c, c if c.isprintable() and ord(c) < 0x250 else "?") for c in text)


def to_latex(table: Table) -> str:
    r"""A ``table`` environment a block, for ``\input``; needs the packages booktabs and graphicx.

    What the columns mean stands in the float with them, what holds for all of them in the first one. LaTeX counts the
    tables; ``\label`` is ``tab:`` and the file's name, from the second on with its number.
    """
    parts = ["% needs \\usepackage{booktabs,graphicx}"]
    title = table.title.partition(": ")[2]
    for number, block in enumerate((*table.blocks, table.reported), 1):
        groups = _groups(block)
        spans, start = [], 2
        for model, width in groups:
            spans.append(
                (f"\\multicolumn{{{width}}}{{c}}{{{tex(model)}}}", f"\\cmidrule(lr){{{start}-{start + width - 1}}}")
            )
            start += width
        lines = [
            "\\begin{table}[t]",
            "\\centering",
            f"\\caption{{{tex(title[:1].upper() + title[1:])}; {tex(block.caption)}.}}",
            f"\\label{{tab:{_label(table.stem)}{f'-{number}' if number > 1 else ''}}}",
            "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
            f"\\begin{{tabular}}{{l{'r' * len(block.columns)}}}",
            "\\toprule",
            " & ".join(["", *(span for span, _ in spans)]) + r" \\",
            " ".join(rule for _, rule in spans),
            " & ".join(["Editor", *(tex(heading(name)) for _, name in block.columns)]) + r" \\",
            "\\midrule",
        ]
        for editor, cells in zip(block.editors, block.cells, strict=True):
            shown = [f"\\textbf{{{tex(cell.text)}}}" if cell.best else tex(cell.text) for cell in cells]
            lines.append(" & ".join([tex(editor_label(editor)), *shown]) + r" \\")
        notes = " ".join(tex(note) for note in _notes(table, block, first=number == 1))
        lines += ["\\bottomrule", "\\end{tabular}}", "\\par\\smallskip", f"{{\\footnotesize {notes}\\par}}"]
        parts.append("\n".join([*lines, "\\end{table}"]))
    return "\n\n".join(parts) + "\n"


def _notes(table: Table, block: Block, first: bool) -> list[str]:
    """What the columns of a block mean; in the first one what holds for all of them before it."""
    own, every = (
        list(dict.fromkeys(names.explained(name) for one in blocks for _, name in one.columns))
        for blocks in ([block], table.blocks)
    )
    return [*([note for note in table.notes if note not in every] if first else []), *own]


def _label(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", stem)


def to_csv(table: Table) -> str:
    """One line a cell with all digits; ``source`` keeps what was measured apart from what the paper reports."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["source", "model", "editor", "measure", "mean", "low", "high", "best", "shown"])
    for source, blocks in (("measured", table.blocks), ("paper", (table.reported,))):
        for block in blocks:
            for editor, cells in zip(block.editors, block.cells, strict=True):
                for (model, measure), cell in zip(block.columns, cells, strict=True):
                    numbers = ["" if value is None else repr(value) for value in (cell.mean, cell.low, cell.high)]
                    best = "yes" if cell.best else ""
                    writer.writerow([source, *map(_as_text, (model, editor, measure)), *numbers, best, cell.text])
    return out.getvalue()


def _as_text(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def block_html(block: Block, label: Callable[[str], str] = editor_label) -> str:
    """A block as a ``<table>`` whose column heads carry what sorting needs."""
    text = html.escape
    groups = "".join(f'<th scope="colgroup" colspan="{width}">{text(model)}</th>' for model, width in _groups(block))
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button" title="{text(names.measure(name).definition)}">'
        f"{text(heading(name))}</button></th>"
        for _, name in block.columns
    )
    body = "".join(
        f'<tr><th scope="row"><span class="swatch" data-editor="{text(editor)}"></span>{text(label(editor))}</th>'
        + "".join(_td(cell) for cell in cells)
        + "</tr>"
        for editor, cells in zip(block.editors, block.cells, strict=True)
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="sortable"><caption>{text(block.caption)}</caption><thead>'
        f'<tr><td></td>{groups}</tr><tr><th scope="col" aria-sort="none"><button type="button">Editor</button></th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _td(cell: Cell) -> str:
    kind = "best" if cell.best else "gap" if cell.mean is None and cell.text != NOTHING else ""
    value = "" if cell.mean is None else f' data-value="{cell.mean!r}"'
    return f"<td{f' class={kind}' if kind else ''}{value}>{html.escape(cell.text)}</td>"


def to_html(table: Table) -> str:
    """All blocks and the definitions, as a fragment."""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    measured = "".join(block_html(block) for block in table.blocks)
    return (
        f'<section class="card" id="{html.escape(table.stem)}"><h3>{html.escape(table.title)}</h3>{measured}'
        f'<div class="reported">{block_html(table.reported)}</div>'
        f"<details><summary>How to read it</summary><ul>{notes}</ul></details></section>"
    )
