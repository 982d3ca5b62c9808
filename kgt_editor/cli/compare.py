"""The command line of ``benchmarks/compare.py``."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from kgt_editor.cli.launch import add_options, check_options, workers_of
from kgt_editor.commands import INTERRUPTED, Parser, add_placement, positive, run
from kgt_editor.data.base import check_name
from kgt_editor.editors.names import registry_of
from kgt_editor.errors import UsageError
from kgt_editor.folders import shipped_hparams
from kgt_editor.lm.loading import model_source

if TYPE_CHECKING:
    from kgt_editor.runs.cells import RunOutcome
    from kgt_editor.runs.request import RunConfig

PROGRAM = "compare.py"
DEFAULT_SIZE = 200
_PATIENCE = 2.0  # seconds after a signal in which another one is taken for the same wish


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """All options with their defaults."""
    parser = Parser(prog=program, description="Compare model editors on one model and data set.")
    add = parser.add_argument
    add(
        "--editors",
        default="kgt,rome,mend",
        help="comma-separated; 'kgt:paper' is a preset; 'all' (default: %(default)s)",
    )
    add(
        "--model",
        default="testbed-gpt2",
        help="see --list; or a folder, GGUF file or Hugging Face name (default: %(default)s)",
    )
    add("--dataset", default="world", help="see --list (default: %(default)s)")
    add("--data", type=Path, metavar="FILE", help="file of a data set that is read from one")
    add(
        "--same-subject",
        type=Path,
        metavar="FILE",
        help="facts, as PARAREL's: an edited subject's others are asked too, and should be answered as before",
    )
    add(
        "--order",
        type=Path,
        metavar="FILE",
        help='order of editing, {"0": [case numbers], ...} a seed, as others have published theirs',
    )
    add("--known-only", action="store_true", help="only facts that the model answers rightly before any edit")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--size", type=positive, metavar="N", help=f"edits a seed (default: {DEFAULT_SIZE})")
    size.add_argument(
        "--sizes", type=_sizes, metavar="N,N,...", help="edit once, to the largest, and evaluate after each of them"
    )
    add("--texts", action="store_true", help="let the model write about the subjects, too: ROME's GE and RS (slow)")
    add("--seeds", type=positive, default=1, metavar="N", help="how many: seeds 0 to N-1 (default: %(default)s)")
    add("--mode", choices=("sequential", "single"), default="sequential", help="default: %(default)s")
    add(
        "--normalise",
        choices=("mean", "sum"),
        default="mean",
        help="log probability a token or in all (default: %(default)s)",
    )
    add("--hparams", type=Path, metavar="DIR", help="folder of <EDITOR>/<model>.yaml, before the repository's own")
    add("--set", action="append", default=[], metavar="EDITOR.KEY=VALUE", help="change a hyperparameter; repeatable")
    add("--graph", metavar="world|none|FILE", help="base graph of kgt (default: what its hyperparameters say)")
    add("--easyedit-hparams", type=Path, metavar="DIR", help="EasyEdit's YAMLs (default: ours, then its clone's)")
    add_placement(add)
    add("--device-map", metavar="auto", help="spread a model over all GPUs, and main memory, by accelerate")
    add(
        "--batch-size",
        type=_batch_size,
        default="auto",
        metavar="auto|N",
        help="texts a forward pass of the evaluation, at most (default: what the device uses well and has memory for)",
    )
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="default: %(default)s")
    add(
        "--overwrite",
        choices=("never", "only-missing", "always"),
        default="only-missing",
        help="what becomes of a run that is there: shown, resumed, or deleted (default: %(default)s)",
    )
    add(
        "--checkpoint-every",
        type=positive,
        default=50,
        metavar="N",
        help="edits after which the state is saved; a killed run loses no more (default: %(default)s)",
    )
    add("--no-report", action="store_true", help="leave out tables, figures and report.html")
    add("--limit", type=positive, metavar="N", help="smoke run: only the first N records")
    add_options(parser)
    add("--list", action="store_true", help="list editors, models and data sets")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(positive(part.strip()) for part in text.split(","))


def _batch_size(text: str) -> int | str:
    return text if text == "auto" else positive(text)


def build_config(options: argparse.Namespace, hparams_dir: Path) -> RunConfig:
    """The request as typed values.

    Raises:
        UsageError: an empty list of editors, several sizes in single mode, a malformed ``--set``, or a ``--graph``
            nobody reads.
    """
    from kgt_editor.runs.request import RunConfig

    editors = tuple(name.strip() for name in options.editors.split(",") if name.strip())
    if not editors:
        raise UsageError("--editors names no editor")
    sizes = options.sizes or (options.size or DEFAULT_SIZE,)
    if options.mode == "single" and len(set(sizes)) > 1:
        raise UsageError("--mode single undoes every edit, so that their number changes nothing: give one --size")
    overrides: dict[str, dict[str, str]] = {}
    for text in options.set:
        target, equals, value = text.partition("=")
        editor, dot, key = target.partition(".")
        if not (equals and dot and editor and key):
            raise UsageError(f"--set {text}: must have the form EDITOR.KEY=VALUE, as in rome.v_lr=0.5")
        overrides.setdefault(editor, {})[key] = value
    if options.graph is not None:
        if options.graph not in ("world", "none") and not Path(options.graph).is_file():
            raise UsageError(f"--graph {options.graph}: no such file; known: world, none or a file of triples")
        overrides.setdefault("kgt", {})["graph"] = options.graph
    if options.easyedit_hparams is not None:
        if not options.easyedit_hparams.is_dir():
            raise UsageError(f"--easyedit-hparams {options.easyedit_hparams}: no such folder")
        overrides.setdefault("easyedit", {})["hparams"] = str(options.easyedit_hparams)
    if options.hparams is not None and not options.hparams.is_dir():
        raise UsageError(f"--hparams {options.hparams}: no such folder")
    return RunConfig(
        editors=editors,
        model=options.model,
        dataset=options.dataset,
        data=options.data,
        same_subject=options.same_subject,
        order=options.order,
        sizes=sizes,
        seeds=options.seeds,
        mode=options.mode,
        normalise=options.normalise,
        hparams_dir=options.hparams or hparams_dir,
        overrides=overrides,
        device=options.device,
        device_map=options.device_map,
        dtype=options.dtype,
        limit=options.limit,
        known_only=options.known_only,
        texts=options.texts,
        batch_size=options.batch_size,
    )


def main(arguments: Sequence[str], hparams_dir: Path | None = None, program: str = PROGRAM) -> int:
    """Run the command and return its exit code: 0, 1 (failure), 2 (usage) or 130 (interrupted).

    Args:
        arguments: without the program's name.
        hparams_dir: where the YAMLs lie unless ``--hparams`` says otherwise; without it, those of the package.
        program: what the lines on stderr begin with.
    """
    _on_signals()

    def work(words: list[str]) -> int:
        options = build_parser(program).parse_args(words)
        options.debug = "--debug" in arguments
        if options.list:
            _list(options.hparams or hparams_dir or shipped_hparams())
            return 0
        return _compare(options, words, hparams_dir or shipped_hparams(), program)

    return run(program, arguments, work, "interrupted before anything was measured")


def _check_names(options: argparse.Namespace) -> None:
    """Tell a wrong name at once: what comes after this imports torch and transformers, which takes seconds.

    Raises:
        UsageError: an unknown editor or data set.
    """
    for name in options.editors.split(","):
        if name.strip() not in ("", "all"):
            registry_of(name.strip())
    check_name(options.dataset)


def _compare(options: argparse.Namespace, words: Sequence[str], hparams_dir: Path, program: str) -> int:
    _check_names(options)
    stderr = Console(stderr=True, highlight=False, soft_wrap=True)
    with stderr.status("loading torch and transformers"):  # seconds; shown on a terminal only
        from transformers.utils import logging

        from kgt_editor.data.bar import download_bar
        from kgt_editor.runs.console import Display
        from kgt_editor.runs.request import check_request, hparams_notes
        from kgt_editor.runs.run import ResumePolicy
        from kgt_editor.runs.run import run as run_request
    config = build_config(options, hparams_dir)
    check_options(options)
    with download_bar(stderr) as progress:
        request = check_request(config, options.out, progress, options.launcher != "ray", hparams_dir)
    for note in hparams_notes(request):
        stderr.print(Text(note))
    if (records := request.data.records) is request.data.all_records:
        stderr.print(Text(f"all {len(records):,} records of '{config.dataset}' are for editing: none are to train on"))
    if not stderr.is_terminal or Path(model_source(options.model)).is_dir():
        logging.disable_progress_bar()  # only a download is worth a bar of its own
    policy = ResumePolicy(options.overwrite, options.checkpoint_every, options.debug)
    with workers_of(options) as workers:
        outcome = run_request(request, [PROGRAM, *words], Display(stderr), policy, workers)
    code = _show(outcome, stderr, program)
    if outcome.rows and not (options.no_report or outcome.interrupted):
        _report(outcome, stderr, program, options.debug)
    return code


def _report(outcome: RunOutcome, stderr: Console, program: str, debug: bool) -> None:
    """Tables, figures and a page in the run's folder; whatever goes wrong there, the run stands."""
    try:
        from kgt_editor.reporting.report import write_report

        report = write_report([outcome.folder])
        for notice in report.notices:
            stderr.print(Text(f"report: {notice}"))
        stderr.print(Text(f"Report: {report.folder / 'report.html'}"))
    except Exception as error:
        if debug:
            stderr.print_exception()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        stderr.print(Text(f"{program}: no report was written ({reason}); try again: report.py {outcome.folder}"))


def _show(outcome: RunOutcome, stderr: Console, program: str) -> int:
    from kgt_editor.runs.console import footnotes, results_console, results_table

    if outcome.rows:
        stdout = results_console()
        stdout.print(results_table(outcome.rows, stdout.width))
        for note in footnotes(outcome.rows, outcome.missing):
            stdout.print(Text(note))
        stdout.print(Text(f"Results: {outcome.folder}"), soft_wrap=True)
    for failure in outcome.failed:
        stderr.print(Text(f"{program}: editor '{failure.editor}', {failure.where} failed: {failure.reason}"))
    if outcome.interrupted:
        left = len(outcome.missing)
        stderr.print(
            Text(
                f"{program}: interrupted, {left} cells not complete; the same command goes on with them: "
                f"{outcome.folder}"
            )
        )
        return INTERRUPTED
    if outcome.missing:
        stderr.print(Text(f"{program}: {len(outcome.missing)} cells not complete, left so: {outcome.folder}"))
    return 1 if outcome.failed or outcome.missing else 0


def _list(hparams_dir: Path) -> None:
    from kgt_editor.data import base as data
    from kgt_editor.editors import base as editors
    from kgt_editor.editors.names import BY_COLON_LISTED
    from kgt_editor.editors.settings import presets
    from kgt_editor.lm.loading import known_models
    from kgt_editor.lm.shapes import PREFIX, SHAPES
    from kgt_editor.runs.console import listing

    stdout = Console(highlight=False)
    described_editors = {}
    for name, cls in editors.available().items():
        listed = ", ".join(presets(name, hparams_dir))
        described_editors[name] = cls.description + (f"\npresets: {listed}" if listed else "")
    described = {
        "Editors": described_editors | BY_COLON_LISTED,
        "Models": {
            **known_models(),
            **{PREFIX + name: "that size with random weights, for time and memory only" for name in SHAPES},
            "<name or path>": "any Hugging Face causal language model, or a GGUF file of one",
        },
        "Data sets": data.available(),
    }
    for title, entries in described.items():
        stdout.print(listing(title, entries), soft_wrap=True)


def _on_signals() -> None:
    """Let SIGTERM end the run as Ctrl-C does, and take an impatient second signal for the first one."""
    last = -_PATIENCE

    def stop(number: int, frame: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= _PATIENCE:
            last = time.monotonic()
            raise KeyboardInterrupt

    for kind in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(kind) is not signal.SIG_IGN:  # a background job is not to be stopped by Ctrl-C
            signal.signal(kind, stop)
