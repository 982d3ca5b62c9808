"""Write a trained testbed model with its manifest."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from kgt_editor.data.factbook import FactBook
from kgt_editor.testbed.abilities import REQUIRED, measure, shortfalls
from kgt_editor.testbed.recipes import Recipe


def corpus_hash(book: FactBook) -> str:
    """SHA-256 of what the training text is made from: facts, sentences and their held-out pairs."""
    parts = [repr((fact, book.trained_templates(fact))) for fact in book.facts]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def ship(
    model: PreTrainedModel,
    tok: PreTrainedTokenizerFast,
    book: FactBook,
    recipe: Recipe,
    seconds: float,
    processes: int,
    out: Path,
    *,
    instructed: Collection[str],
    start_from: Path | None = None,
    prompts_sha256: str | None = None,
    sample: int | None = None,
    required: Mapping[str, float] = REQUIRED,
) -> str:
    """Save weights in fp16, tokenizer and manifest to ``out``; measure the abilities of what was saved.

    The manifest lists every stage's recipe and minutes; ``start_from`` is the folder of the stage before,
    ``prompts_sha256`` the file that this stage's other sentences came from. The abilities are measured on ``sample``
    facts, or on all, of the subjects that no instruction example named, and held against ``required``; those of the
    ``instructed`` subjects stand beside them.

    Returns:
        one line of figures.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    tok.save_pretrained(out)
    saved = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    held_out = set(book.by_subject) - set(instructed)
    abilities = measure(saved, tok, book, sample, subjects=held_out)
    short = shortfalls(abilities, required)
    weights = out / "model.safetensors"
    earlier = json.loads((start_from / "manifest.json").read_text(encoding="utf-8"))["stages"] if start_from else []
    stages = [*earlier, {"recipe": asdict(recipe), "minutes": round(seconds / 60, 1), "processes": processes}]
    if prompts_sha256:
        stages[-1]["prompts_sha256"] = prompts_sha256
    minutes = round(sum(stage["minutes"] for stage in stages), 1)
    manifest = {
        "schema_version": 1,
        "what": "a small stand-in language model trained from scratch on these facts; not comparable to real models",
        "stages": stages,
        "seed": recipe.seed,
        "parameters": sum(p.numel() for p in saved.parameters()),
        "training_minutes": minutes,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "facts": len(book.facts),
        "corpus_sha256": corpus_hash(book),
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "subjects": len(book.by_subject),
        "subjects_held_out_of_instructions": len(held_out),
        "instructed_sha256": hashlib.sha256("\n".join(sorted(instructed)).encode()).hexdigest(),
        "abilities": abilities,
        "abilities_of_instructed_subjects": measure(saved, tok, book, sample, subjects=instructed),
        "shortfalls": short,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    (out / "checkpoint.pt").unlink(missing_ok=True)
    figures = " ".join(f"{name}={abilities[name]:.3f}" for name in ("recall_trained", "recall_held_out"))
    worst = min((value, name) for name, value in abilities.items() if name != "no_edit_efficacy")
    return (
        f"{out.name}: {manifest['parameters']} parameters, {weights.stat().st_size / 1e6:.1f} MB, "
        f"{minutes} minutes, {figures}, weakest {worst[1]}={worst[0]:.3f}, "
        f"{len(short)} shortfalls; written to {out}"
    )
