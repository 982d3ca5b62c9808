"""Choose KGT's settings for a model: ``kgt calibrate --model NAME --records counterfact=FILE``.

What is chosen and how: :mod:`kgt_editor.kgt.calibration`. The YAML that is written says with what figures, and
``compare.py`` finds it by the model's name. Only validation records are looked at. Every figure is kept beside the YAML
(``<name>.calibration.json``) as soon as it is measured: the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from kgt_editor import commands
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.folders import shipped_hparams

PROGRAM = "kgt calibrate"
_CHOSEN = ("reading", "contrast", "guard", "guard_midpoint", "guard_slope", "retrieval_min", "relation_source")
_NAMED = 200  # records a data set whose relations are named


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All options with their defaults."""
    parser = commands.Parser(prog=program, description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", required=True, help="as for compare.py: a name, a folder, a GGUF file")
    add(
        "--records",
        action="append",
        metavar="DATASET[=FILE]",
        help="whose validation records are looked at; repeatable (default: world, which needs no file)",
    )
    add("--size", type=commands.positive, default=24, metavar="N", help="records a data set (default: %(default)s)")
    add("--seed", type=int, default=0, help="which records are drawn (default: %(default)s)")
    add("--out", type=Path, metavar="FILE", help="YAML to write (default: hparams/KGT/<model>.yaml)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting that is kept as it is; repeatable")
    commands.add_placement(add)
    add("--debug", action="store_true", help="show tracebacks")
    return parser


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run the command and return its exit code: 0, 1 (failure), 2 (usage) or 130 (interrupted)."""
    return commands.run(program, arguments, lambda rest: _calibrate(build_parser(program).parse_args(rest)))


def _calibrate(options: argparse.Namespace) -> int:
    from kgt_editor.editors.base import file_stems
    from kgt_editor.kgt.calibration import Calibration, examples
    from kgt_editor.kgt.hparams import KGTHyperParams
    from kgt_editor.lm.loading import load_model

    stderr = Console(stderr=True, highlight=False, soft_wrap=True)
    overrides = dict(_setting(text) for text in options.set)
    values: dict[str, Any] = {"alg_name": "KGT", "model_name": options.model}
    hparams = KGTHyperParams.build(values, PROGRAM).override(overrides)
    pools = [_records(text) for text in options.records or ["world"]]
    asked = {
        "model": options.model,
        "dtype": options.dtype,
        "records": [f"{name} ({revision})" for name, revision, _ in pools],
        "size": options.size,
        "seed": options.seed,
        "set": overrides,
    }
    out: Path = options.out or shipped_hparams() / "KGT" / f"{file_stems(options.model)[0]}.yaml"
    figures = out.with_name(f"{out.stem}.calibration.json")
    measured = _earlier(figures, asked, stderr)
    chosen_from, named = (
        [one for _, _, records in pools for one in examples(records, size, options.seed)]
        for size in (options.size, _NAMED)
    )

    def keep() -> None:
        try:
            figures.parent.mkdir(parents=True, exist_ok=True)
            figures.write_text(json.dumps({"asked": asked, "measured": measured}, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise KgtError(f"{figures} cannot be written: {error.strerror}") from None

    model, tok = load_model(options.model, options.device, options.dtype)  # of a wrong one nothing is left behind
    keep()
    stderr.print(Text(f"{len(chosen_from)} validation records; figures go to {figures}"))
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        task = bars.add_task("calibrating", total=None)

        def advance(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        chosen = Calibration(model, tok, chosen_from, hparams, named, measured, keep, advance).choose()
    out.write_text(_yaml(chosen, asked, measured), encoding="utf-8")
    stderr.print(Text(f"Written: {out}"))
    return 0


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"--set {text}: must have the form KEY=VALUE, as in K=3")
    return key, value


def _records(text: str) -> tuple[str, str, Sequence[Any]]:
    from kgt_editor.data import base

    name, _, file = text.partition("=")
    data = base.load(name, Path(file) if file else None)
    if not data.validation:
        raise UsageError(f"--records {text}: the data set has no validation records to choose by; use another")
    return name, data.revision, data.validation


def _earlier(figures: Path, asked: dict[str, Any], stderr: Console) -> dict[str, Any]:
    """What an earlier call with the same request has measured."""
    try:
        found = json.loads(figures.read_text(encoding="utf-8"))
        same = found["asked"] == asked
        measured: dict[str, Any] = dict(found["measured"]) if same else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        stderr.print(Text(f"{figures} cannot be read; all is measured anew"))
        return {}
    if not same:
        stderr.print(Text(f"{figures} is of another request; all is measured anew"))
    elif measured:
        stderr.print(Text(f"goes on after: {', '.join(measured)}"))
    return measured


def _yaml(chosen: Any, asked: dict[str, Any], measured: dict[str, Any]) -> str:
    """The settings that differ from the defaults or were chosen, and how."""
    import yaml

    readings = [row for name, rows in measured.items() if name.startswith("reading") for row in rows]
    guard = measured[f"bearing {chosen.reading} {chosen.contrast}"]
    best = max(readings, key=lambda row: row["value"])
    fact = [f"{name} {best[f'{name} score']}/{best[f'{name} accuracy']}" for name in ("efficacy", "paraphrase")]
    lines = [
        f"KGT for {asked['model']}, chosen by `kgt calibrate` on validation records only:",
        f"up to {asked['size']} of each of {', '.join(asked['records'])}, seed {asked['seed']}, {asked['dtype']}.",
        f"With the fact in front, score/accuracy: {', '.join(fact)}",
        f"({len(readings)} combinations of reading and contrast were tried). With the guard: in-scope questions "
        f"{guard['in-scope score']}/{guard['in-scope accuracy']},",
        f"other questions on the subject kept {guard['others kept']}. Relations named right by rank: "
        + ", ".join(f"{key} {value}" for key, value in measured["naming"].items())
        + ".",
    ]
    named = ("alg_name", "model_name", *_CHOSEN)
    shown = chosen.model_dump(exclude_defaults=True) | {key: getattr(chosen, key) for key in named}
    return "".join(f"# {line}\n" for line in lines) + yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
