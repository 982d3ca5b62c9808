"""What one edit costs: KGT against its plain form, a forward pass, and other editors, on one model in one process.

    python benchmarks/edit_cost.py --model shape:gpt2-small --threads 2 --out results/edit_cost.json

Every round takes one record of the world and runs everything on it once, in turn, so that what disturbs the machine
disturbs all of it; medians over the rounds are compared, as ratios. Random weights cost what trained ones do, with one
exception that counts against KGT: a model that knows no relation from another leaves none of them out, so ``rank`` runs
them all (``tokens`` gives the tokens of each pass; a trained testbed runs about a tenth).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from json_report import report
from rich.console import Console
from rich.progress import track

from kgt_editor.data.record import Record
from kgt_editor.data.world import load_world
from kgt_editor.editors.base import Editor, create_editor, restore_model
from kgt_editor.editors.kgt import base_graph
from kgt_editor.editors.settings import find_hparams
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.relations import verbalise
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import objective, relations
from kgt_editor.kgt.editor import edit, edit_batch
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.optimizer import OPTIMIZERS
from kgt_editor.kgt.templates import SEPARATOR
from kgt_editor.lm.loading import load_model
from kgt_editor.lm.meter import measure, tidy
from kgt_editor.lm.scoring import score_targets
from kgt_editor.requests import EditRequest

ROOT = Path(__file__).resolve().parent.parent
ASKED = {
    "kgt_rank / forward": 6.0, "plain rank / kgt_rank": 3.0, "plain generate / kgt_generate": 1.5,
    "rome / kgt_rank": 15.0, "ft / kgt_rank": 2.0, "mend / kgt_rank": 1.0, "one by one / batch": 3.0,
    "edit memory / inference memory": 1.05, "answer with a fact / plain answer": 2.2,
    "answer without facts / plain answer": 1.05,
}  # fmt: skip
BATCH = 32
NEW_TOKENS = 16
WIDE = 256  # tokens of a pass in which a further token costs arithmetic alone


def plain_edit(model: KGEnhancedLM, request: dict[str, Any], source: str) -> None:
    """The method without any engineering: one prompt and one continuation a forward pass; the graph is left alone."""
    lm, tok, hparams, told = model.lm, model.tok, model.hparams, EditRequest.parse(request)

    def log_prob(prompt: str, target: str) -> Any:
        return score_targets(lm, tok, [prompt], [target], batch_size=1)[0]

    prompt = model.templates.extract.format(
        K=hparams.K, e_q=told.subject, e_a=told.target_new, q=told.prompt, a=told.target_new
    )
    names = (
        relations.generate(lm, tok, prompt, told.subject, told.target_new, hparams.K) if source == "generate" else []
    )
    if not names:
        scored = {name: log_prob(prompt, f"{name} {SEPARATOR}").log_prob for name in model.retrieval.vocabulary()}
        names = sorted(scored, key=lambda name: -scored[name])[: hparams.K]
    proposals = [Triple(told.subject, name, told.target_new) for name in names]
    present = model.candidates(told.subject, told.prompt)
    known = {}
    for triple in dict.fromkeys([*proposals, *present]):
        retrieval = log_prob(model.templates.retrieve.format(q=told.prompt, e_q=told.subject), triple.relation)
        reasoning = log_prob(model.reasoning_prompt(told.prompt, triple), told.target_new)
        known[triple] = objective.ScoredTriple(triple, retrieval.log_prob, reasoning.log_prob, reasoning.greedy)
    plain = log_prob(told.prompt, told.target_new)
    problem = objective.Problem(tuple(known[z] for z in proposals), tuple(known[z] for z in present), plain)
    OPTIMIZERS[hparams.optimizer](problem, hparams)


class Bench:
    """Everything that is timed, by name, as work on a record."""

    def __init__(self, name: str, device: str, dtype: str, others: list[str]) -> None:
        self.lm, self.tok = load_model(name, device, dtype)
        self.lm.generation_config.eos_token_id = None  # so that every answer has the same length
        self.device = self.lm.device
        self.editors: dict[str, Editor] = {}
        world = load_world()
        for other in others:
            # An untrained hypernetwork costs what a trained one does.
            changes = {"max_iters": "1", "batch_size": "2"} if other in ("mend", "ke") else {}
            self.editors[other] = create_editor(other, name, ROOT / "hparams", changes)
            self.editors[other].prepare(self.lm, self.tok, world.training[:64])
        # The passes that are counted here are those of the paper's prompts.
        settings = {**AS_PRINTED, "graph": "world"}
        kgt = find_hparams(KGTHyperParams, "kgt", name, ROOT / "hparams")[0].override(settings)
        # A user who has told everything, one of whose facts every query is answered with, and one who told nothing.
        told = PersonalGraph(base_graph("none"))
        for record in world.records:
            told.add(Triple(record.subject, verbalise(record.relation_id), record.target_new))
        always = kgt.override({"retrieval_min": 0.0})
        self.known = KGEnhancedLM(self.lm, self.tok, told, always)
        self.empty = KGEnhancedLM(self.lm, self.tok, PersonalGraph(base_graph("none")), always)
        self.models = {
            source: KGEnhancedLM(
                self.lm, self.tok, PersonalGraph(base_graph("world")), kgt.override({"relation_source": source})
            )
            for source in ("rank", "generate", "user")
        }

    def work(self) -> dict[str, Callable[[Record], None]]:
        """Name -> what is timed; :meth:`undo` puts the model and the graphs back."""
        found: dict[str, Callable[[Record], None]] = {
            "forward": self._forward,
            "query": self._query,
            "pass of 1 token": lambda record: self._pass(1),
            f"pass of {WIDE} tokens": lambda record: self._pass(WIDE),
            "plain first token": lambda record: self._plain_answer(record, 1),
            "first token with a fact": lambda record: self._answer(self.known, record, 1),
            "plain answer": lambda record: self._plain_answer(record, NEW_TOKENS),
            "answer with a fact": lambda record: self._answer(self.known, record, NEW_TOKENS),
            "answer without facts": lambda record: self._answer(self.empty, record, NEW_TOKENS),
        }
        for source, model in self.models.items():
            found[f"kgt_{source}"] = lambda record, model=model: self._kgt(model, record)  # type: ignore[misc]
            if source == "user":
                continue
            found[f"plain {source}"] = lambda record, model=model, source=source: plain_edit(  # type: ignore[misc]
                model, record.request(), source
            )
        for name, editor in self.editors.items():
            found[name] = lambda record, editor=editor: self._weights(editor, record)  # type: ignore[misc]
        return found

    def reasoning_ids(self, record: Record) -> torch.Tensor:
        """T_reasoning with the edit's own triple and its answer, (1, length)."""
        triple = Triple(record.subject, "has native language", record.target_new)
        text = f"{self.models['rank'].reasoning_prompt(record.query, triple)} {record.target_new}"
        return torch.tensor([self.tok(text).input_ids], device=self.device)

    @torch.no_grad()
    def _forward(self, record: Record) -> None:
        self.lm(input_ids=self.reasoning_ids(record), use_cache=False)

    @torch.no_grad()
    def _query(self, record: Record) -> None:
        self.lm(input_ids=torch.tensor([self.tok(record.query).input_ids], device=self.device), use_cache=False)

    @torch.no_grad()
    def _pass(self, tokens: int) -> None:
        ids = torch.arange(tokens, device=self.device)[None]
        self.lm(input_ids=ids, use_cache=False, logits_to_keep=1)

    def tokens(self, source: str, record: Record) -> list[int]:
        """Tokens of each forward pass of an edit."""
        widths: list[int] = []
        hook = self.lm.register_forward_pre_hook(
            lambda module, args, kwargs: widths.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        self._kgt(self.models[source], record)
        hook.remove()
        self.undo(f"kgt_{source}")
        return widths

    @torch.no_grad()
    def _plain_answer(self, record: Record, new_tokens: int) -> None:
        ids = torch.tensor([self.tok(record.query).input_ids], device=self.device)
        mask = torch.ones_like(ids)
        settings = {"do_sample": False, "num_beams": 1, "pad_token_id": self.tok.pad_token_id}
        self.lm.generate(input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, **settings)

    def _answer(self, model: KGEnhancedLM, record: Record, new_tokens: int) -> None:
        model.answer(record.query, max_new_tokens=new_tokens)

    def _kgt(self, model: KGEnhancedLM, record: Record) -> None:
        edit(model, record.request())

    def _weights(self, editor: Editor, record: Record) -> None:
        _, self._restore = editor.apply(self.lm, self.tok, [record.request()], return_orig_weights=True)

    def undo(self, name: str) -> None:
        """Undo the work of that name."""
        if name in self.editors:
            restore_model(self.lm, self._restore)
        elif name.startswith("kgt_"):
            self.models[name.removeprefix("kgt_")].graph.undo()

    def batch_seconds(self, records: list[Record]) -> tuple[float, float]:
        """Seconds for the edits of as many users as records: one by one, and together."""
        requests = [record.request() for record in records]
        seconds = []
        for together in (False, True):
            users = [self.models["rank"].with_graph(PersonalGraph(base_graph("world"))) for _ in records]
            start = time.perf_counter()
            if together:
                edit_batch(users, requests)
            else:
                for user, request in zip(users, requests, strict=True):
                    edit(user, request)
            seconds.append(time.perf_counter() - start)
        return seconds[0], seconds[1]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All measurements of one model."""
    torch.set_num_threads(args.threads)
    others = [name for name in args.editors.split(",") if name]
    bench = Bench(args.model, args.device, args.dtype, others)
    records = load_world().sample(args.edits + args.warm_up + BATCH, args.seed)
    work = bench.work()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    peaks: dict[str, list[int]] = {name: [] for name in work}
    rounds = records[: args.edits + args.warm_up]
    for number, record in enumerate(track(rounds, args.model, console=Console(stderr=True))):
        for name, task in work.items():
            if name in bench.editors and number % args.every:
                continue
            if name.startswith("kgt_") or name in ("forward", "query"):
                tidy(bench.device)
            measured = measure(lambda task=task, record=record: task(record), bench.device)  # type: ignore[misc]
            bench.undo(name)
            if number >= args.warm_up:
                seconds[name].append(measured.seconds)
                peaks[name].append(measured.peak_bytes)
    pairs = [bench.batch_seconds(records[-BATCH:]) for _ in range(args.batches + 1)][1:]
    median = {name: statistics.median(values) for name, values in seconds.items()}
    peak = {name: statistics.median(values) for name, values in peaks.items()}
    widths = [bench.tokens("rank", record) for record in rounds]
    floor = floors(median["pass of 1 token"], median[f"pass of {WIDE} tokens"], widths)
    together = statistics.median(together for _, together in pairs) / BATCH
    ratios = {
        "kgt_rank / forward": median["kgt_rank"] / median["forward"],
        "kgt_rank / query": median["kgt_rank"] / median["query"],
        "plain rank / kgt_rank": median["plain rank"] / median["kgt_rank"],
        "plain generate / kgt_generate": median["plain generate"] / median["kgt_generate"],
        **{f"{name} / kgt_rank": median[name] / median["kgt_rank"] for name in others},
        "kgt_user / forward": median["kgt_user"] / median["forward"],
        "kgt_rank / its floor": median["kgt_rank"] / floor["one edit"],
        "edit of a batch / its floor": together / floor["edit of a batch"],
        "floor of one edit / floor in a batch": floor["one edit"] / floor["edit of a batch"],
        **{
            f"{name} / plain answer": median[name] / median["plain answer"]
            for name in median
            if name.startswith("answer")
        },
        "edit memory / inference memory": peak["kgt_rank"] / peak["forward"],
        "one by one / batch": statistics.median(alone / together for alone, together in pairs),
    }
    return {
        "schema_version": 1,
        "model": args.model,
        "parameters": sum(value.numel() for value in bench.lm.parameters()),
        "dtype": args.dtype,
        "device": torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else platform.machine(),
        "threads": args.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "edits": args.edits,
        "seed": args.seed,
        "reasoning_tokens": statistics.median(bench.reasoning_ids(record).shape[1] for record in rounds),
        "median_seconds": {name: round(value, 6) for name, value in median.items()},
        "median_peak_bytes": peak,
        "tokens": {"passes": [statistics.median(each) for each in zip(*widths, strict=False)]},
        "floor_seconds": {name: round(value, 6) for name, value in floor.items()},
        "batch_edits_per_second": round(1 / together, 2),
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "asked": {name: value for name, value in ASKED.items() if name in ratios},
    }


def floors(one: float, wide: float, widths: list[list[int]]) -> dict[str, float]:
    """Least seconds of an edit that runs these tokens, in passes of these widths.

    A pass reads every weight, which a pass of one token shows (``one`` seconds); every further token costs what it
    costs in a wide pass (``wide`` seconds), where nothing but arithmetic is left. In a batch of many users the reading
    is shared, so only the arithmetic counts.
    """
    token = (wide - one) / (WIDE - 1)
    total = statistics.median(sum(each) for each in widths)
    passes = statistics.median(len(each) for each in widths)
    return {"a token": token, "one edit": passes * one + (total - passes) * token, "edit of a batch": total * token}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="shape:gpt2-small", help="default %(default)s")
    parser.add_argument("--editors", default="rome,mend,ke,ft", help="timed beside KGT (default %(default)s)")
    parser.add_argument("--edits", type=int, default=20, help="timed rounds (default %(default)s)")
    parser.add_argument("--warm-up", type=int, default=2, help="rounds before them (default %(default)s)")
    parser.add_argument(
        "--every", type=int, default=4, help="time the others every so many rounds (default %(default)s)"
    )
    parser.add_argument("--batches", type=int, default=3, help="batches of 32 users (default %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the JSON, which is printed in any case")
    args = parser.parse_args()
    return report(lambda: run(args), args.out)


if __name__ == "__main__":
    sys.exit(main())
