from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from kgt_editor.errors import UsageError
from kgt_editor.lm import loading, shapes


@pytest.fixture
def saved(tiny_lm, tmp_path):
    model, tok = tiny_lm
    folder = tmp_path / "own-model"
    model.half().save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder, model


def test_loads_a_folder_in_the_wanted_dtype_and_ready_to_evaluate(saved):
    folder, original = saved
    model, tok = loading.load_model(str(folder), device="cpu")
    assert not model.training
    assert tok.pad_token_id is not None
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    for name, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], value.float()), name
    half, _ = loading.load_model(str(folder), device="cpu", dtype="bfloat16")
    assert next(half.parameters()).dtype == torch.bfloat16


def test_a_tokenizer_without_pad_token_pads_with_end_of_text(saved):
    folder, _ = saved
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    _, tok = loading.load_model(str(folder), device="cpu")
    assert tok.pad_token == tok.eos_token


def test_a_shipped_model_goes_by_its_folders_name(saved, monkeypatch):
    folder, _ = saved
    monkeypatch.setattr(loading, "MODELS_DIR", folder.parent)
    assert loading.model_source("own-model") == str(folder)
    assert "3 layers of width 32" in loading.known_models()["own-model"]


def test_the_shipped_models_load():
    for name in loading.shipped_models():
        model, tok = loading.load_model(name, device="cpu")
        assert model(**tok("The town of", return_tensors="pt")).logits.isfinite().all()


def test_unknown_names_list_the_shipped_ones(monkeypatch, tmp_path, saved):
    folder, _ = saved
    monkeypatch.setattr(loading, "MODELS_DIR", folder.parent)
    with pytest.raises(UsageError, match="unknown model 'testbed-bert'; shipped ones: own-model"):
        loading.model_source("testbed-bert")
    # Nothing answers there: the same as a machine without network.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for check in (loading.check_model, loading.load_model):
        with pytest.raises(UsageError, match="'no/such-model' is neither known") as caught:
            check("no/such-model")
        assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has no config\.json"):
        loading.model_source(str(tmp_path / "empty"))


def test_devices_and_dtypes_are_checked(monkeypatch):
    assert loading.resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="unknown device 'tpu9'"):
        loading.resolve_device("tpu9")
    with pytest.raises(UsageError, match="device 'meta' cannot be used here"):
        loading.resolve_device("meta")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loading.resolve_device("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="this machine has 0 CUDA devices; use cpu"):
        loading.resolve_device("cuda")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        loading.load_model("testbed-gpt2", dtype="int8")


def test_a_map_is_handed_to_transformers_which_lays_the_model_out(saved, monkeypatch):
    folder, original = saved
    asked, load = [], AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *args, **kwargs: asked.append(kwargs) or load(*args, **kwargs)
    )
    model, _ = loading.load_model(str(folder), device_map="auto")
    assert [one["device_map"] for one in asked] == ["auto"]
    assert not model.training
    for name, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[name].cpu(), value.float()), name
    with pytest.raises(UsageError, match="'everywhere'; known: auto, balanced"):
        loading.load_model(str(folder), device_map="everywhere")
    with pytest.raises(UsageError, match="chooses the devices itself: leave --device cpu out"):
        loading.load_model(str(folder), device="cpu", device_map="auto")
    with pytest.raises(UsageError, match="the weights of 'shape:gpt2-small' are made on one device"):
        loading.load_model("shape:gpt2-small", device_map="auto")


def test_a_map_without_accelerate_names_the_extra(saved, monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs accelerate: pip install 'kgt_editor\[large\]'"):
        loading.check_placement("auto", "auto")


def test_weights_are_counted_without_loading_them(saved):
    folder, original = saved
    numbers = sum(value.numel() for value in original.parameters())
    assert loading.weights_bytes(str(folder)) == 4 * numbers
    assert loading.weights_bytes(str(folder), "bfloat16") == 2 * numbers
    assert round(loading.weights_bytes("shape:gpt2-xl", "float16") / 2e6) == 1558


def test_a_shape_has_random_weights_of_that_size_and_the_same_ones_every_time(monkeypatch):
    monkeypatch.setitem(shapes.SHAPES, "tiny", {**shapes.SHAPES["gpt2-small"], "n_embd": 24, "n_layer": 2})
    state = torch.random.get_rng_state()
    model, tok = loading.load_model("shape:tiny", device="cpu", dtype="bfloat16")
    again, _ = loading.load_model("shape:tiny", device="cpu", dtype="bfloat16")
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.config.n_layer == 2
    assert next(model.parameters()).dtype == torch.bfloat16
    assert torch.equal(model.transformer.h[1].mlp.c_fc.weight, again.transformer.h[1].mlp.c_fc.weight)
    assert model(**tok("The town of", return_tensors="pt")).logits.isfinite().all()


def test_the_published_shapes_have_the_published_number_of_parameters():
    for name, millions in (("gpt2-small", 124), ("gpt2-xl", 1558), ("llama-2-7b", 6738), ("llama-3-8b", 8030)):
        model = shapes.random_model(f"shape:{name}", torch.device("meta"), torch.float16)
        assert round(sum(value.numel() for value in model.parameters()) / 1e6) == millions


def test_an_unknown_shape_is_refused():
    for load in (loading.load_model, loading.check_model):
        with pytest.raises(UsageError, match="unknown shape 'shape:bert'; known: shape:gpt2-small"):
            load("shape:bert")
