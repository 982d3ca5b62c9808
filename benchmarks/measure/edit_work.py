"""The work that edit_cost.py times, by name, on one model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kgt_editor.data.record import Record
from kgt_editor.data.world import load_world
from kgt_editor.editors.base import Editor, create_editor, restore_model
from kgt_editor.editors.settings import find_hparams
from kgt_editor.errors import KgtError, one_line
from kgt_editor.graph.personal import Edit, PersonalGraph
from kgt_editor.graph.relations import verbalise
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import objective, relations
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.editor import edit, edit_batch
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.optimizer import OPTIMIZERS
from kgt_editor.kgt.representation import Representations
from kgt_editor.kgt.templates import SEPARATOR
from kgt_editor.lm.loading import load_model
from kgt_editor.lm.meter import Measured, measure, synchronise, tidy
from kgt_editor.lm.scoring import score_targets
from kgt_editor.requests import EditRequest

ROOT = Path(__file__).resolve().parents[2]
NEW_TOKENS = 16
_BEGAN = time.perf_counter()
WIDE = 256  # tokens of a pass in which a further token costs arithmetic alone


def plain_edit(model: KGEnhancedLM, request: dict[str, Any], source: str) -> None:
    """The method without any engineering: one prompt and one continuation a forward pass; the graph is left alone."""
    lm, tok, hparams, request = model.lm, model.tok, model.hparams, EditRequest.parse(request)

    def log_prob(prompt: str, target: str) -> Any:
        return score_targets(lm, tok, [prompt], [target], batch_size=1)[0]

    prompt = model.templates.extract.format(
        K=hparams.K, e_q=request.subject, e_a=request.target_new, q=request.prompt, a=request.target_new
    )
    names = (
        relations.generate(lm, tok, prompt, request.subject, request.target_new, hparams.K)
        if source == "generate"
        else []
    )
    if not names:
        scored = {name: log_prob(prompt, f"{name} {SEPARATOR}").log_prob for name in model.retrieval.vocabulary()}
        names = sorted(scored, key=lambda name: -scored[name])[: hparams.K]
    proposals = [Triple(request.subject, name, request.target_new) for name in names]
    present = model.candidates(request.subject, request.prompt)
    known = {}
    for triple in dict.fromkeys([*proposals, *present]):
        retrieval = log_prob(model.templates.retrieve.format(q=request.prompt, e_q=request.subject), triple.relation)
        reasoning = log_prob(model.reasoning_prompt(request.prompt, triple), request.target_new)
        known[triple] = objective.ScoredTriple(triple, retrieval.log_prob, reasoning.log_prob, reasoning.greedy)
    plain = log_prob(request.prompt, request.target_new)
    problem = objective.ScoredEdit(tuple(known[z] for z in proposals), tuple(known[z] for z in present), plain)
    OPTIMIZERS[hparams.optimizer](problem, hparams)


class Bench:
    """Everything that is timed, by name, as work on a record.

    Args:
        name: of the model.
        device, dtype: as of ``compare.py``.
        others: editors beside KGT.
        printed: KGT with the paper's prompts and ``rank``; else with the settings that ship for the model.

    Attributes:
        source: where the relations of an edit come from, of KGT's own row: ``kgt_<source>``.
    """

    def __init__(self, name: str, device: str, dtype: str, others: list[str], printed: bool = True) -> None:
        self.lm, self.tok = load_model(name, device, dtype)
        say(f"{name} loaded")
        self.lm.generation_config.eos_token_id = None  # so that every answer has the same length
        self.device = self.lm.device
        self.weights = allocated(self.device)
        self.editors: dict[str, Editor] = {}
        self.failed: dict[str, str] = {}
        self.own: dict[str, int] = {}  # bytes that an editor keeps beside the model, counted on a GPU only
        world = load_world()
        for other in others:
            # An untrained hypernetwork costs what a trained one does.
            changes = {"max_iters": "1", "batch_size": "2"} if other in ("mend", "ke") else {}
            before = allocated(self.device)
            self.editors[other] = create_editor(other, name, ROOT / "hparams", changes)
            try:
                self.editors[other].prepare(self.lm, self.tok, world.training[:64])
            except (KgtError, RuntimeError) as error:  # too large for the device: the others go on
                self.drop(other, error)
            else:
                say(f"{other} prepared")
            tidy(self.device)
            self.own[other] = allocated(self.device) - before
        shipped = find_hparams(KGTHyperParams, "kgt", name, ROOT / "hparams")[0]
        kgt = shipped.override(AS_PRINTED) if printed else shipped
        self.source = "rank" if printed else kgt.relation_source
        self.graph = "world" if printed else kgt.graph  # the paper's graphs know some of the subjects
        # A user who has told everything, one of whose facts every query is answered with, and one who told nothing.
        everything = PersonalGraph(base_graph("none"))
        for record in world.records:
            triple = Triple(record.subject, verbalise(record.relation_id), record.target_new)
            everything.commit(record.query, record.target_new, [triple])
        always = kgt.override({"retrieval_min": 0.0})
        self.known = KGEnhancedLM(self.lm, self.tok, everything, always)
        self.empty = KGEnhancedLM(self.lm, self.tok, PersonalGraph(base_graph("none")), always)
        sources = ("rank", "generate", "user") if printed else dict.fromkeys((self.source, "rank", "user"))
        self.models = {
            source: KGEnhancedLM(
                self.lm, self.tok, PersonalGraph(base_graph(self.graph)), kgt.override({"relation_source": source})
            )
            for source in sources
        }

    def drop(self, name: str, error: Exception) -> None:
        """Leave an editor out from now on, and say why."""
        self.failed[name] = one_line(error)[:300]
        del self.editors[name]
        say(f"{name} is left out: {self.failed[name]}")

    def work(self, without: Sequence[str] = ()) -> dict[str, Callable[[Record], None]]:
        """Name -> what is timed; :meth:`undo` puts the model and the graphs back.

        Args:
            without: what is not wanted: ``plain`` (the method's plain form) or ``answers``.
        """
        found: dict[str, Callable[[Record], None]] = {
            "forward": self._forward,
            "query": self._query,
            "pass of 1 token": lambda record: self._pass(1),
            f"pass of {WIDE} tokens": lambda record: self._pass(WIDE),
        }
        if "answers" not in without:
            found |= {
                "plain first token": lambda record: self._plain_answer(record, 1),
                "first token with a fact": lambda record: self._answer(self.known, record.query, 1),
                "first token with it, other words": lambda record: self._answer(self.known, _reworded(record), 1),
                "first token without facts": lambda record: self._answer(self.empty, record.query, 1),
                "plain answer": lambda record: self._plain_answer(record, NEW_TOKENS),
                "answer with a fact": lambda record: self._answer(self.known, record.query, NEW_TOKENS),
                "answer with it, other words": lambda record: self._answer(self.known, _reworded(record), NEW_TOKENS),
                "answer without facts": lambda record: self._answer(self.empty, record.query, NEW_TOKENS),
            }
        for source, model in self.models.items():
            found[f"kgt_{source}"] = lambda record, model=model: self._kgt(model, record)  # type: ignore[misc]
            if source in ("user", "query") or "plain" in without:
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
        told = Edit(0, record.query, record.target_new, added=(triple,))
        text = f"{self.models['user'].reasoning_prompt(record.query, triple, told)} {record.target_new}"
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

    def _answer(self, model: KGEnhancedLM, query: str, new_tokens: int) -> None:
        ids = torch.tensor([self.tok(query).input_ids], device=self.device)
        model.generate(ids, max_new_tokens=new_tokens)  # not ``answer``, which may end earlier than the plain model

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

    def measure(self, name: str, task: Callable[[Record], None], record: Record) -> Measured[None]:
        """Do the work of that name once and undo it.

        The peak on a GPU counts the weights, what the editor itself keeps and what the work allocates, and nothing that
        the other editors keep. A CPU's is the whole process's.
        """
        if name.startswith("kgt_") or name in ("forward", "query"):
            tidy(self.device)
        if name.startswith("kgt_") and self.models[self.source].hparams.guard == "similarity":
            Representations.of(self.lm, self.tok).clear()  # the rows before asked the same question
        before = allocated(self.device)
        found = measure(lambda: task(record), self.device)
        self.undo(name)
        if self.device.type != "cuda":
            return found
        return replace(found, peak_bytes=found.peak_bytes - before + self.weights + self.own.get(name, 0))

    def batch_seconds(self, records: list[Record], together: bool) -> float:
        """Seconds for the edits of as many users as records, one by one or together."""
        requests = [record.request() for record in records]
        users = [self.models[self.source].with_graph(PersonalGraph(base_graph(self.graph))) for _ in records]
        synchronise(self.device)
        start = time.perf_counter()
        if together:
            edit_batch(users, requests)
        else:
            for user, request in zip(users, requests, strict=True):
                edit(user, request)
        synchronise(self.device)
        return time.perf_counter() - start


def _reworded(record: Record) -> str:
    """The question in other words; in its own where the record has no others."""
    return record.paraphrase_prompts[0] if record.paraphrase_prompts else record.query


def say(text: str) -> None:
    """A line on standard error, with the seconds since the process began to work."""
    print(f"{time.perf_counter() - _BEGAN:6.1f} s  {text}", file=sys.stderr, flush=True)


def allocated(device: torch.device) -> int:
    """Bytes of tensors on a GPU; 0 elsewhere."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
