"""Questions answered after a paragraph alone: ``python benchmarks/measure/prose.py --data akew_mquake.jsonl``.

AKEW (Wu et al. 2024) tells every edit in a paragraph. Each is read by a user of their own who knows nothing else; then
the edit is asked for, as a question and as a text to go on with, and two other questions about the subject are asked.

  plain          the model without the paragraph
  read           PersonalModel.read(paragraph): names in it are found by rule
  read, named    the same, told whom the text is about
  pasted         the plain model, the paragraph in front of each question

An answer counts where its first sentence has the new object, as whole words. Writes <out>/prose-<model>.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import track

from kgt_editor import PersonalModel, commands
from kgt_editor.data.mquake import Edit, read_cases
from kgt_editor.editors.settings import file_stems
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.generated import Written
from kgt_editor.kgt.representation import MASK, masked, neutral_sentences
from kgt_editor.lm.loading import resolve_device
from kgt_editor.results.statistics import wilson
from kgt_editor.runs.environment import environment

TOKENS = 16
OTHERS = 2  # other questions about a subject


def told(path: Path) -> Iterator[Edit]:
    """The file's edits that it tells in prose, each fact once."""
    seen: set[tuple[str, str]] = set()
    for case in read_cases(path):
        for edit in case.edits:
            if edit.paragraph and edit.fact not in seen:
                seen.add(edit.fact)
                yield edit


def measure(model: str, edits: list[Edit], device: str = "auto", dtype: str = "float32") -> dict[str, Any]:
    """How many of the questions are answered, how many of the other answers stay, by row."""
    plain = PersonalModel(model, device=device, dtype=dtype)
    counts: dict[str, Counter[str]] = {}
    sentences: Counter[str] = Counter()
    for number, edit in enumerate(track(edits, "paragraphs")):
        other = _others(edit, random.Random(number))
        before = [plain.ask(question, TOKENS).text for question in other]
        rows: dict[str, Callable[[str], str]] = {"plain": lambda question: plain.ask(question, TOKENS).text}
        for row, about in (("read", ()), ("read, named", edit.subject)):
            me = PersonalModel(model, device=device, dtype=dtype)
            noted = me.read(edit.paragraph, about)
            sentences.update({f"{row}: kept": len(noted.edits), f"{row}: left": len(noted.left)})
            rows[row] = lambda question, me=me: me.ask(question, TOKENS).text  # type: ignore[misc]
        rows["pasted"] = lambda question, text=edit.paragraph: plain.ask(f"{text} {question}", TOKENS).text  # type: ignore[misc]
        for row, ask in rows.items():
            count = counts.setdefault(row, Counter())
            count["question"] += Written(ask(edit.question), edit.target_new).contains
            count["statement"] += Written(ask(edit.prompt.replace("{}", edit.subject)), edit.target_new).contains
            if row != "plain":
                count["others kept"] += sum(ask(question) == text for question, text in zip(other, before, strict=True))
    asked = {"question": len(edits), "statement": len(edits), "others kept": OTHERS * len(edits)}
    shares = {
        row: {
            what: {"share": count[what] / of, "interval": wilson(count[what] / of, of)}
            for what, of in asked.items()
            if row != "plain" or what != "others kept"  # they are compared with it
        }
        for row, count in counts.items()
    }
    return {"paragraphs": len(edits), "rows": shares, "sentences": dict(sentences)}


def _others(edit: Edit, rng: random.Random) -> list[str]:
    """Questions about the edit's subject that ask for other relations."""
    listed = [pair[1] for relation, pair in neutral_sentences().items() if relation != edit.relation_id]
    return [masked(question, MASK, edit.subject) for question in rng.sample(listed, OTHERS)]


def _work(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", type=Path, required=True, help="AKEW's file of MQuAKE cases")
    parser.add_argument("--first", type=commands.positive, metavar="N", help="paragraphs (default: all)")
    parser.add_argument("--out", type=Path, default=Path("results/real"))
    commands.add_placement(parser.add_argument)
    options = parser.parse_args(arguments)
    edits = list(told(options.data))[: options.first]
    if not edits:
        raise UsageError(f"{options.data}: no edit of it is told in prose (field fact_new_uns)")
    found = {
        "model": options.model,
        **measure(options.model, edits, options.device, options.dtype),
        "environment": environment(resolve_device(options.device)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"prose-{file_stems(options.model)[0]}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for row, shares in found["rows"].items():
        print(row, {what: round(one["share"], 3) for what, one in shares.items()})
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(commands.run("prose.py", sys.argv[1:], _work))
