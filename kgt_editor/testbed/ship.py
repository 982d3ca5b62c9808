"""Write a trained testbed model with its manifest."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from kgt_editor.data import world
from kgt_editor.testbed.abilities import measure, shortfalls
from kgt_editor.testbed.train import Recipe


def corpus_hash() -> str:
    """SHA-256 of what the training text is made from: facts, sentences and their held-out pairs."""
    parts = [repr((fact, world.trained_templates(fact))) for fact in world.facts()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def ship(
    model: PreTrainedModel, tok: PreTrainedTokenizerFast, recipe: Recipe, seconds: float, processes: int, out: Path
) -> str:
    """Save weights in fp16, tokenizer and manifest to ``out``; measure the abilities of what was saved.

    Returns:
        one line of figures.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    tok.save_pretrained(out)
    saved = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    abilities = measure(saved, tok)
    weights = out / "model.safetensors"
    manifest = {
        "schema_version": 1,
        "what": "a small stand-in language model trained from scratch on the world; not comparable to real models",
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in saved.parameters()),
        "training_minutes": round(seconds / 60, 1),
        "processes": processes,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "facts": len(world.facts()),
        "corpus_sha256": corpus_hash(),
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "abilities": abilities,
        "shortfalls": shortfalls(abilities),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    (out / "checkpoint.pt").unlink(missing_ok=True)
    figures = " ".join(f"{name}={abilities[name]:.3f}" for name in ("recall_trained", "recall_held_out"))
    worst = min((value, name) for name, value in abilities.items() if name != "no_edit_efficacy")
    return (
        f"testbed-{recipe.arch}: {manifest['parameters']} parameters, {weights.stat().st_size / 1e6:.1f} MB, "
        f"{manifest['training_minutes']} minutes, {figures}, weakest {worst[1]}={worst[0]:.3f}, "
        f"{len(shortfalls(abilities))} shortfalls; written to {out}"
    )
