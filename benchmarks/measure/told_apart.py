"""How well hidden states tell questions apart: ``python benchmarks/measure/told_apart.py --model smollm2-135m``.

The package's own sentences ask for some fifty things in several wordings each. In turn a sixth of these kinds is held
out; two wordings of one held-out kind are to be nearer than two questions of different kinds. Compared are the plain
mean of the states and Fisher's directions of the other kinds (kgt_editor/kgt/representation.py). ``passing`` is the
share of pairs of different kinds that are as near as the threshold under which 9 of 10 (3 of 4) pairs of wordings lie.

Writes <out>/told-apart-<model>.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kgt_editor import commands
from kgt_editor.editors.settings import file_stems
from kgt_editor.kgt.representation import Representations, directions, kinds, sentences
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.loading import load_model
from kgt_editor.runs.environment import environment

FOLDS = 6
SHARES = (0.9, 0.75)  # of the wordings of one thing that are to pass


def measure(states: Tensor, kind: Tensor, asks: Tensor, seed: int) -> dict[str, Any]:
    """Both ways of comparing, over all folds.

    Args:
        states: of every sentence, shape (texts, layers, width).
        kind: what each asks for, shape (texts,).
        asks: 1 for a question, 0 for a statement, shape (texts,).
        seed: of the folds.
    """
    count = int(kind.max()) + 1
    order = random.Random(seed).sample(range(count), count)
    alike: dict[str, list[Tensor]] = {"plain": [], "directions": []}
    apart: dict[str, list[Tensor]] = {"plain": [], "directions": []}
    for fold in range(FOLDS):
        held = torch.isin(kind, torch.tensor(order[fold::FOLDS]))
        learnt = directions(states[~held], torch.unique(kind[~held], return_inverse=True)[1], asks[~held])
        centred = (states[held] - learnt["centres"][asks[held]]) / learnt["scale"]
        same = kind[held][:, None] == kind[held][None]
        pairs = torch.triu(torch.ones_like(same), 1)
        for name, seen in (
            ("plain", centred),
            ("directions", torch.einsum("tlw,lwd->tld", centred, learnt["directions"])),
        ):
            vectors = torch.nn.functional.normalize(seen, dim=-1).flatten(1) / seen.shape[1] ** 0.5
            near = vectors @ vectors.T
            alike[name].append(near[same & pairs])
            apart[name].append(near[~same & pairs])
    return {name: _judged(torch.cat(alike[name]), torch.cat(apart[name])) for name in alike}


def _judged(alike: Tensor, apart: Tensor) -> dict[str, float]:
    ranked = float((alike[:, None] > apart[None]).float().mean())
    passing = {
        f"passing at {share}": float((apart >= torch.quantile(alike, 1 - share)).float().mean()) for share in SHARES
    }
    return {"area under the curve": ranked, **passing, "alike": len(alike), "apart": len(apart)}


def _work(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/real"))
    commands.add_placement(parser.add_argument)
    options = parser.parse_args(arguments)
    model, tok = load_model(options.model, options.device, options.dtype)
    texts, kind, asks = sentences()
    found = {
        "model": options.model,
        "kinds": len(kinds()),
        "sentences": len(texts),
        "seed": options.seed,
        "rows": measure(Representations.of(model, tok).states(texts), kind, asks, options.seed),
        "environment": environment(device_of(model)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"told-apart-{file_stems(options.model)[0]}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["rows"], indent=1), path)
    return 0


if __name__ == "__main__":
    sys.exit(commands.run("told_apart.py", sys.argv[1:], _work))
