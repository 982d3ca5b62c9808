"""Models without a YAML of their own, and where hyperparameters are said to come from."""

from __future__ import annotations

import json

import pytest

from kgt_editor.notice import tell


def manifest(out):
    (folder,) = out.iterdir()
    return json.loads((folder / "manifest.json").read_text())


@pytest.fixture
def llama_folder(tiny_llama, tmp_path, capsys):
    model, tok = tiny_llama
    model.config.max_position_embeddings = 1024  # the tokenizer's tokens are short, KGT's prompts are not
    folder = tmp_path / "foo"
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    capsys.readouterr()  # the bar of whoever saves a model first
    return folder


def test_a_model_without_yamls_is_edited_with_derived_defaults(compare, llama_folder, tmp_path):
    rows = ("kgt", "rome", "ft", "icl:bm25")
    code, _, err = compare("--editors", ",".join(rows), "--model", str(llama_folder), "--limit", "2")
    assert code == 0, err
    for row in rows:
        base, _, preset = row.partition(":")
        file = f"hparams/{base.upper()}/foo{preset and '.'}{preset}.yaml"
        assert f"{row}: no {file}; defaults derived from the architecture (llama, 3 blocks)\n" in err
    told = manifest(tmp_path / "results")
    assert told["hparams_from"] == dict.fromkeys(rows, "derived: llama, 3 blocks")
    assert told["config"]["hparams"]["rome"]["v_loss_layer"] == 2
    assert told["config"]["hparams"]["icl:bm25"]["retrieval"] == "bm25"
    assert told["config"]["hparams"]["ft"]["model_name"] == str(llama_folder)
    lines = [json.loads(line) for line in next((tmp_path / "results").glob("*/records.jsonl")).read_text().splitlines()]
    assert {line["editor"] for line in lines} == {"none", *rows}
    assert {line["failure"] for line in lines} == {None}


def test_a_folder_of_ones_own_overrides_single_files(compare, saved_model, tmp_path):
    mine, shipped = tmp_path / "mine", tmp_path / "hparams"
    for folder, editor in ((mine, "FT"), (shipped, "ICL")):
        (folder / editor).mkdir(parents=True)
    (mine / "FT" / "tiny-model.yaml").write_text(
        "alg_name: FT\nmodel_name: gpt2-xl\nlayers: [1]\nnum_steps: 2\nlr: 1.0e-3\n"
        "rewrite_module_tmp: transformer.h.{}.mlp.c_proj\n"
    )
    (shipped / "ICL" / "tiny-model.yaml").write_text("alg_name: ICL\nmodel_name: tiny-model\nk: 7\n")
    code, _, err = compare(
        *("--editors", "ft,icl,rome", "--limit", "2", "--hparams", str(mine), "--model", str(saved_model)),
        shipped=shipped,
    )
    assert code == 0, err
    assert f"ft: hyperparameters of {mine}/FT/tiny-model.yaml" in err
    assert f"ft: {mine}/FT/tiny-model.yaml says model_name gpt2-xl, not {saved_model}" in err
    assert f"icl: nothing for it in {mine}; hyperparameters of the shipped hparams/ICL/tiny-model.yaml" in err
    assert "rome: no mine/ROME/tiny-model.yaml; defaults derived from the architecture (gpt2, 3 blocks)" in err
    told = manifest(tmp_path / "results")
    assert told["hparams_from"] == {
        "ft": "given: mine/FT/tiny-model.yaml",
        "icl": "shipped: hparams/ICL/tiny-model.yaml",
        "rome": "derived: gpt2, 3 blocks",
    }
    assert (told["config"]["hparams"]["ft"]["layers"], told["config"]["hparams"]["icl"]["k"]) == ([1], 7)


def test_the_shipped_yaml_of_a_model_needs_no_word(compare, saved_model, tmp_path):
    named = saved_model.rename(tmp_path / "testbed-gpt2-copy")
    shipped = tmp_path / "hparams"
    (shipped / "FT").mkdir(parents=True)
    (shipped / "FT" / "testbed-gpt2-copy.yaml").write_text(
        "alg_name: FT\nmodel_name: testbed-gpt2-copy\nlayers: [1]\nnum_steps: 2\nlr: 1.0e-3\n"
        "rewrite_module_tmp: transformer.h.{}.mlp.c_proj\n"
    )
    code, _, err = compare("--editors", "ft", "--limit", "2", "--model", str(named), shipped=shipped)
    assert code == 0, err
    assert "hyperparameters" not in err
    assert manifest(tmp_path / "results")["hparams_from"] == {"ft": "shipped: hparams/FT/testbed-gpt2-copy.yaml"}


def test_a_weight_editor_on_an_unknown_architecture_is_one_clear_line(compare, llama_folder):
    config = json.loads((llama_folder / "config.json").read_text())
    (llama_folder / "config.json").write_text(json.dumps(config | {"model_type": "stablelm"}))
    code, out, err = compare("--editors", "rome", "--model", str(llama_folder))
    assert (code, out) == (2, "")
    assert err == (
        f"compare.py: editor 'rome' cannot edit '{llama_folder}': 'stablelm' is an unknown architecture; "
        "known: gpt2, llama, mistral, qwen2; leave it out\n"
    )


@pytest.fixture
def log_probs(compare, llama_folder, tmp_path):
    """Runs editors in a number format; gives what the unedited model thinks of the new answers, and what was said."""

    def run(dtype, editors):
        tell.cache_clear()
        asked = ("--editors", editors, "--model", str(llama_folder), "--dtype", dtype, "--limit", "2")
        code, _, err = compare(*asked, out=tmp_path / dtype)
        assert code == 0, err
        (folder,) = (tmp_path / dtype).iterdir()
        lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        assert {line["failure"] for line in lines} == {None}
        return [line["raw"]["edit"]["log_prob_new"] for line in lines if line["editor"] == "none"], err

    return run


def test_bfloat16_on_a_cpu(log_probs):
    (half, err), (full, _) = log_probs("bfloat16", "kgt,ft,icl"), log_probs("float32", "none")
    assert half == pytest.approx(full, rel=0.05)
    assert half != full
    assert "emulate" not in err


def test_float16_on_a_cpu_works_and_is_said_to_be_slow(log_probs):
    _, err = log_probs("float16", "kgt,ft,icl")
    assert "dtype float16: CPUs emulate it" in err
