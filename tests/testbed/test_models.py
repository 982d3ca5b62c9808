"""The shipped models: loadable with plain transformers, small, as measured, and able to do what they must."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kgt_editor.data import world
from kgt_editor.lm.loading import MODELS_DIR, shipped_models
from kgt_editor.testbed.abilities import MOST_NO_EDIT_EFFICACY, REQUIRED, REQUIRED_LARGE, measure, shortfalls
from kgt_editor.testbed.check import main
from kgt_editor.testbed.recipes import Recipe, stages
from kgt_editor.testbed.ship import corpus_hash

MODELS = sorted(shipped_models())
LARGE = "testbed-large"


def manifest_of(name):
    return json.loads((MODELS_DIR / name / "manifest.json").read_text(encoding="utf-8"))


def test_a_model_is_shipped():
    assert "testbed-gpt2" in MODELS


@pytest.mark.parametrize("name", MODELS)
def test_the_manifest_belongs_to_the_weights(name):
    folder = MODELS_DIR / name
    manifest = manifest_of(name)
    weights = (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == manifest["weights_sha256"]
    assert manifest["shortfalls"] == shortfalls(manifest["abilities"], REQUIRED_LARGE if name == LARGE else REQUIRED)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= (20_000_000 if name == LARGE else 10_000_000)
    if name != LARGE:  # which is taught what is in files that are not part of the package
        assert manifest["corpus_sha256"] == corpus_hash(world.book())


@pytest.mark.parametrize("name", MODELS)
def test_plain_transformers_loads_it(name):
    folder = MODELS_DIR / name
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.config.model_type == manifest_of(name)["stages"][0]["recipe"]["arch"]
    ids = tok("The first language of Bertrand Tavernier is", return_tensors="pt").input_ids
    written = model.generate(ids, max_new_tokens=1, do_sample=False, pad_token_id=tok.pad_token_id)
    assert tok.decode(written[0, -1]).strip() == "French"


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_of_its_abilities_is_as_the_manifest_says(name):
    folder = MODELS_DIR / name
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    told = manifest_of(name)["abilities"]
    found = measure(model, tok, world.book(), sample=80, seed=5)
    assert found.keys() == told.keys() == REQUIRED.keys() | {"no_edit_efficacy"}
    assert found["no_edit_efficacy"] <= MOST_NO_EDIT_EFFICACY
    # 80 facts: three standard errors, and a floor for shares close to one.
    off = {key: (found[key], told[key]) for key in REQUIRED
           if found[key] < told[key] - max(0.06, 3 * (told[key] * (1 - told[key]) / 80) ** 0.5)}  # fmt: skip
    assert not off


def test_the_check_command_prints_json():
    command = [sys.executable, "-m", "kgt_editor.testbed.check", "--sample"]
    run = subprocess.run([*command, "10", "--model", "testbed-gpt2"], capture_output=True, text=True)
    report = json.loads(run.stdout)
    assert report["facts"] == 10
    assert run.returncode == (1 if report["shortfalls"] else 0)


def test_the_check_command_refuses_nonsense(capsys):
    for arguments, told in (
        (["--sample", "0"], "sample"),
        (["--sample", "5", "--model", "testbed-gpt9"], "testbed-gpt2"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert told in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("name", MODELS)
def test_the_recipes_it_was_trained_by_are_those_of_the_script(name):
    manifest = manifest_of(name)
    # What a stage's recipe does not name was added later, with a default that leaves the stage as it was.
    told = [Recipe(**{key: _fixed(value) for key, value in stage["recipe"].items()}) for stage in manifest["stages"]]
    assert told == (stages("gpt2", "large") if name == LARGE else stages(name.removeprefix("testbed-")))


def _fixed(value):
    return tuple(value) if isinstance(value, list) else value
