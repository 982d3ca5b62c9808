"""Changes one value in one file of a run folder."""

from __future__ import annotations

import copy
import gzip
import json

BAD = (None, True, -1, 0, 1e308, "x", "", [], {}, [1], {"a": 1}, 10**30, float("nan"), "\ud800")
CELLS = ("", "x", "nan", "-1", "1e400", "9" * 50)


def changed(value, rng):
    """The value with one part, at any depth, replaced or taken away."""
    value = copy.deepcopy(value)
    inner = value
    while keys := list(inner) if isinstance(inner, dict) else list(range(len(inner))):
        key = rng.choice(keys)
        if not isinstance(inner[key], (dict, list)) or not inner[key] or rng.random() < 0.25:
            if isinstance(inner, dict) and rng.random() < 0.3:
                del inner[key]
            else:
                inner[key] = rng.choice(BAD)
            break
        inner = inner[key]
    return value


def tamper(path, rng):
    if path.suffix == ".gz":
        lines = [line.split(",") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        line = rng.choice(lines)
        line[rng.randrange(len(line))] = rng.choice(CELLS)
        path.write_bytes(gzip.compress("\n".join(map(",".join, lines)).encode()))
        return
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    place = rng.randrange(len(lines))
    lines[place] = json.dumps(changed(json.loads(lines[place]), rng))
    path.write_text("\n".join(lines) + "\n")
