"""Run the cells behind the paper's Tables 1-3 and Figures 3-4, then render all of them.

kgt paper --profile smoke      # a minute: do all parts work here?
kgt paper --profile testbed    # the shipped models; an hour on two cores
kgt paper --profile real --counterfact counterfact.json --extension extension.json   # SmolLM2-135M; hours, in sittings
kgt paper --profile gpu --counterfact counterfact.json   # the paper's models

Runs of compare.py, at all numbers of edits, under ``--out``: one for each model and data set, or, where that takes
hours, one for each editor too, so that what is finished can be kept and several machines can share the work. The report
draws on all of them. A run that is there already and complete, with the same settings, is not made again, and one that
was interrupted is resumed: call the script again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgt_editor.cli import compare, report
from kgt_editor.commands import INTERRUPTED, Parser, run
from kgt_editor.editors.names import names
from kgt_editor.errors import KgtError
from kgt_editor.folders import shipped_hparams

PROGRAM = "paper.py"
# The paper's rows; kgt:user is Figure 3's feedback on relations, kgt:paper Algorithm 1 as printed.
EDITORS = ("ft", "rome", "ke", "kn", "mend", "kgt", "kgt:user", "kgt:paper")
# What else there is today to be measured against.
RIVALS = ("ft:m", "memit", "alphaedit", "ultraedit", "locft", "icl", "icl:bm25")
# Whose edit is short enough on a CPU, and who has something left to lose, for long sequences.
LONG = ("kgt", "kgt:user", "ultraedit", "icl:bm25")


@dataclass(frozen=True)
class Runs:
    """Some cells of a profile.

    Attributes:
        sizes: numbers of edits, Figure 4's.
        apart: whether every editor has a run of its own.
    """

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    sizes: tuple[int, ...]
    seeds: int
    editors: tuple[str, ...] = EDITORS
    dtype: str = "float32"
    apart: bool = False


PROFILES: dict[str, tuple[Runs, ...]] = {
    "smoke": (Runs(("testbed-gpt2",), ("world",), (4, 8), 1, ("ft", "rome", "kgt", "kgt:user")),),
    "testbed": (Runs(("testbed-gpt2", "testbed-llama"), ("world",), (20, 60, 200), 3),),
    # Hours of a CPU.
    "real": (
        Runs(("smollm2-135m",), ("counterfact",), (10, 50, 100), 1, (*EDITORS, *RIVALS), apart=True),
        Runs(("smollm2-135m",), ("counterfact-extension",), (10, 50, 100), 1, (*EDITORS, *RIVALS), apart=True),
        Runs(("smollm2-135m",), ("counterfact",), (500, 1000), 1, LONG, apart=True),
        Runs(("smollm2-135m",), ("counterfact",), (5000,), 1, LONG, apart=True),
        Runs(("testbed-large",), ("counterfact",), (50, 100, 500), 1, (*EDITORS, *RIVALS), apart=True),
        Runs(("testbed-large",), ("counterfact",), (1000, 5000, 21_919), 1, LONG, apart=True),
    ),
    "gpu": (
        Runs(
            ("openai-community/gpt2-xl", "meta-llama/Llama-2-7b-hf", "meta-llama/Meta-Llama-3-8B"),
            ("counterfact", "counterfact-extension"),
            (100, 1000, 10_000),
            3,
            (*EDITORS, *RIVALS),
            dtype="bfloat16",
        ),
    ),
}


def cells(
    runs: Runs, files: dict[str, Path | None], known: Collection[str], same_subject: Path | None = None
) -> Iterator[list[str]]:
    """The arguments of compare.py, one list a run.

    Args:
        runs: what is to be measured.
        files: of each data set; one without a file is left out.
        known: the editors that there are.
        same_subject: facts for other questions on the edited subjects.
    """
    sizes = ",".join(map(str, runs.sizes))
    editors = [name for name in runs.editors if name.partition(":")[0] in known]
    for dataset in runs.datasets:
        if dataset != "world" and files.get(dataset) is None:
            continue
        data = ["--data", str(files[dataset])] if dataset != "world" else []
        data += ["--same-subject", str(same_subject)] if dataset != "world" and same_subject else []
        for model in runs.models:
            for listed in editors if runs.apart else [",".join(editors)]:
                found = ["--model", model, "--dataset", dataset, "--sizes", sizes, "--seeds", str(runs.seeds)]
                yield [*found, "--editors", listed, "--dtype", runs.dtype, *data]


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run what is missing, then the report; the exit code is 0, or that of the first run that went wrong."""
    return run(program, arguments, lambda words: _paper(words, program))


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All options with their defaults."""
    parser = Parser(prog=program, description="The paper's tables and figures, regenerated.")
    parser.add_argument("--profile", choices=PROFILES, default="testbed", help="default: %(default)s")
    parser.add_argument("--counterfact", type=Path, metavar="FILE", help="Tables 1 and 3, Figures 3 and 4 (real, gpu)")
    parser.add_argument("--extension", type=Path, metavar="FILE", help="CounterFactExtension, for Table 2 (real, gpu)")
    parser.add_argument(
        "--same-subject",
        type=Path,
        metavar="FILE",
        help="facts for other questions on the edited subjects (compare.py)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: results/paper-<profile>")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")
    return parser


def _paper(arguments: Sequence[str], program: str) -> int:
    def say(text: str) -> None:
        print(f"{program}: {text}", file=sys.stderr)

    options = build_parser(program).parse_args(arguments)
    profile = PROFILES[options.profile]
    out = options.out or Path("results") / f"paper-{options.profile}"
    known = set(names())
    for name in dict.fromkeys(name for runs in profile for name in runs.editors):
        if name.partition(":")[0] not in known:
            say(f"editor '{name}' is not in this version and is left out")
    files = {"counterfact": options.counterfact, "counterfact-extension": options.extension}
    for dataset in dict.fromkeys(dataset for runs in profile for dataset in runs.datasets):
        if dataset != "world" and files[dataset] is None:
            say(f"{dataset} is left out: give its file with --{dataset.removeprefix('counterfact-')}")
    code = 0
    for cell in (cell for runs in profile for cell in cells(runs, files, known, options.same_subject)):
        command = [*cell, "--device", options.device, "--out", str(out), "--no-report"]
        done = _complete(command, out)
        say(f"{'there already' if done else 'to run'}: compare.py {' '.join(command)}")
        if done or options.dry_run:
            continue
        ended = compare.main(command)
        if ended == INTERRUPTED:
            return ended
        code = code or ended
    if options.dry_run:
        return 0
    return code or report.main([str(out), "--out", str(out / "report")])


def _complete(command: Sequence[str], out: Path) -> bool:
    """Whether a run with these very settings and records, wherever their files lay, has ended well."""
    from kgt_editor.runs.request import check_request, resolved_config, row_names

    options = compare.build_parser().parse_args(list(command))
    try:
        asked = compare.build_config(options, shipped_hparams())
        rows = row_names(asked.editors)
        # Reading the records takes seconds: only where a run may be this one.
        like = [
            config for config in _ended(out) if config.get("editors") == rows and config.get("model") == asked.model
        ]
        if not like:
            return False
        request = check_request(asked, out)
    except KgtError:
        return False  # compare.py says what is wrong
    wanted = _without_places(json.loads(json.dumps(resolved_config(request))))
    return any(_without_places(config) == wanted for config in like)


def _ended(out: Path) -> Iterator[dict[str, Any]]:
    """What was asked for in each run that has ended well."""
    for path in sorted(out.glob("*/manifest.json")):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["status"] == "complete" and isinstance(manifest["config"], dict):
                yield manifest["config"]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # no run, or one that is being written


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    # What the files hold is in data_revision.
    return {name: value for name, value in config.items() if name not in ("data", "same_subject")}
