"""How fast records are evaluated: many at once, as compare.py does it, against one record at a time.

    python benchmarks/measure/evaluation_speed.py --model testbed-gpt2 --threads 2 --out results/cost/evaluation.json

One record at a time is how ROME's evaluation goes (Meng et al. 2022): a forward pass a record, over all of its prompts
with either answer, padded, and each answer's tokens read off the logits one by one. One text at a time, a pass for
every prompt and answer, stands beside it. KGT's model, with an answer told for every record, is asked both ways too.

The ways take turns on stretches of the same records, so what disturbs the machine disturbs all of them, and their log
probabilities are compared.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import track

from kgt_editor.commands import json_report
from kgt_editor.data import base as data_base
from kgt_editor.data.record import Record
from kgt_editor.editors.settings import find_hparams
from kgt_editor.evaluation.metrics import CaseScores, evaluate
from kgt_editor.evaluation.protocol import CASES_A_BATCH
from kgt_editor.evaluation.scorer import scorer
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.relations import verbalise
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.loading import load_model
from kgt_editor.lm.meter import synchronise
from kgt_editor.lm.target import TargetScore
from kgt_editor.lm.tokens import continuation_ids_batch

ROOT = Path(__file__).resolve().parents[2]
ASKED = {"testbed": 10.0, "shape:gpt2-small": 2.0}
TOLERANCE = 1e-4  # nats

Way = Callable[[Sequence[Record]], list[CaseScores]]


@torch.no_grad()
def one_pass(model: Any, tok: Any, prompts: Sequence[str], targets: Sequence[str]) -> list[TargetScore]:
    """All texts in one padded pass with all logits; then a softmax for every token of every answer, as ROME does."""
    pairs = continuation_ids_batch(tok, prompts, targets)
    longest = max(len(context) + len(target) for context, target in pairs)
    pad = tok.pad_token_id or 0
    rows = [context + target + [pad] * (longest - len(context) - len(target)) for context, target in pairs]
    seen = [[1] * len(c + t) + [0] * (longest - len(c + t)) for c, t in pairs]
    device = device_of(model)
    ids, mask = torch.tensor(rows, device=device), torch.tensor(seen, device=device)
    logits = model(input_ids=ids, attention_mask=mask).logits
    scores = []
    for row, (context, target) in enumerate(pairs):
        log_prob, greedy = 0.0, True
        for place, token in enumerate(target):
            here = logits[row, len(context) + place - 1].float()
            log_prob += here.log_softmax(0)[token].item()
            greedy = greedy and int(here.argmax()) == token
        scores.append(TargetScore(log_prob, len(target), greedy))
    return scores


def told_everything(lm: Any, tok: Any, model_name: str, records: Sequence[Record]) -> KGEnhancedLM:
    """KGT's model of a user who has told the new answer of every record."""
    graph = PersonalGraph(base_graph("none"))
    for record in records:
        graph.add(Triple(record.subject, verbalise(record.relation_id), record.target_new))
    hparams, _ = find_hparams(KGTHyperParams, "kgt", model_name, ROOT / "hparams")
    return KGEnhancedLM(lm, tok, graph, hparams)


def ways(model: Any, tok: Any, kgt: KGEnhancedLM) -> dict[str, Way]:
    """Everything that is timed, by name."""

    def by_record(records: Sequence[Record]) -> list[CaseScores]:
        return [evaluate(lambda p, t: one_pass(model, tok, p, t), [record])[0] for record in records]

    def by_text(records: Sequence[Record]) -> list[CaseScores]:
        def score(prompts: Sequence[str], targets: Sequence[str]) -> list[TargetScore]:
            return [one_pass(model, tok, [p], [t])[0] for p, t in zip(prompts, targets, strict=True)]

        return [evaluate(score, [record])[0] for record in records]

    return {
        "by text": by_text,
        "by record": by_record,
        "batched": lambda records: evaluate(scorer(model, tok), records),
        "kgt by record": lambda records: [evaluate(scorer(kgt, tok), [record])[0] for record in records],
        "kgt batched": lambda records: evaluate(scorer(kgt, tok), records),
    }


def difference(left: Sequence[CaseScores], right: Sequence[CaseScores]) -> float:
    """Largest difference between log probabilities of the same answers, in nats."""
    pairs = zip(_log_probs(left), _log_probs(right), strict=True)
    return max(abs(one - other) for one, other in pairs)


def _log_probs(cases: Sequence[CaseScores]) -> list[float]:
    prompts = [prompt for case in cases for prompt in (case.edit, *case.paraphrases, *case.neighbourhood)]
    return [score.log_prob for prompt in prompts for score in (prompt.new, prompt.true)]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All measurements on one model."""
    torch.set_num_threads(args.threads)
    model, tok = load_model(args.model, args.device, args.dtype)
    device = device_of(model)
    records = data_base.load(args.dataset, args.data).sample(args.records, args.seed)
    timed = ways(model, tok, told_everything(model, tok, args.model, records))
    starts = range(0, len(records), args.chunk)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    worst = {"batched": 0.0, "kgt batched": 0.0}
    for way in timed.values():  # warm-up
        way(records[:2])
    for start in track(starts, args.model, console=Console(stderr=True)):
        chunk = records[start : start + args.chunk]
        found = {}
        for name, way in timed.items():
            synchronise(device)
            began = time.perf_counter()
            found[name] = way(chunk)
            synchronise(device)
            seconds[name].append(time.perf_counter() - began)
        worst["batched"] = max(worst["batched"], difference(found["batched"], found["by record"]))
        worst["kgt batched"] = max(worst["kgt batched"], difference(found["kgt batched"], found["kgt by record"]))
    total = {name: sum(values) for name, values in seconds.items()}
    prompts = [1 + len(record.paraphrase_prompts) + len(record.neighbourhood_prompts) for record in records]
    ratios = {
        "by record / batched": total["by record"] / total["batched"],
        "by text / batched": total["by text"] / total["batched"],
        "kgt by record / kgt batched": total["kgt by record"] / total["kgt batched"],
        "kgt batched / batched": total["kgt batched"] / total["batched"],
    }
    asked = [value for name, value in ASKED.items() if args.model.startswith(name)]
    return {
        "schema_version": 1,
        "model": args.model,
        "parameters": sum(value.numel() for value in model.parameters()),
        "dtype": args.dtype,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": args.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dataset": args.dataset,
        "records": len(records),
        "records_at_once": args.chunk,
        "prompts_a_record": round(statistics.fmean(prompts), 2),
        "seed": args.seed,
        "records_per_second": {name: round(len(records) / value, 2) for name, value in total.items()},
        "largest_difference_nats": worst,
        "equal": all(value <= TOLERANCE for value in worst.values()),
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
        "asked": {"by record / batched": asked[0]} if asked else {},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="testbed-gpt2", help="default %(default)s")
    parser.add_argument("--dataset", default="world", help="default %(default)s")
    parser.add_argument("--data", type=Path, help="file of a data set that is read from one")
    parser.add_argument("--records", type=int, default=1024, help="default %(default)s")
    parser.add_argument(
        "--chunk", type=int, default=CASES_A_BATCH, help="records evaluated together (default %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the JSON, which is printed in any case")
    args = parser.parse_args()
    return json_report(lambda: run(args), args.out)


if __name__ == "__main__":
    sys.exit(main())
