from __future__ import annotations

from typing import ClassVar, Literal

import pytest

from kgt_editor.config import HParams, parse_value
from kgt_editor.errors import UsageError


class Toy(HParams):
    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"stats_dir"})

    alg_name: Literal["TOY"] = "TOY"
    layers: tuple[int, ...] = (0,)
    v_lr: float = 0.5
    stop: Literal["loss", "answer"] = "loss"


def write(tmp_path, text):
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return path


def test_reads_a_yaml_and_types_its_values(tmp_path):
    path = write(tmp_path, "alg_name: TOY\nmodel_name: ./hugging_cache/gpt2\ndevice: 0\nlayers: [3, 4]\nv_lr: 5e-1\n")
    toy = Toy.from_hparams(path)
    assert (toy.layers, toy.v_lr, toy.device, toy.model_name) == ((3, 4), 0.5, 0, "./hugging_cache/gpt2")


def test_the_suffix_may_be_left_out_as_in_easyedit(tmp_path):
    write(tmp_path, "v_lr: 2\n")
    assert Toy.from_hparams(str(tmp_path / "toy")).v_lr == 2


def test_a_dot_in_the_model_name_is_no_suffix(tmp_path):
    (tmp_path / "llama-3.1-8b.yaml").write_text("v_lr: 3\n")
    assert Toy.from_hparams(tmp_path / "llama-3.1-8b").v_lr == 3


def test_ignored_keys_are_dropped_and_instances_frozen(tmp_path):
    toy = Toy.from_hparams(write(tmp_path, "stats_dir: ./data/stats\n"))
    assert not hasattr(toy, "stats_dir")
    with pytest.raises(ValueError, match="frozen"):
        toy.v_lr = 1.0


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("v_lrr: 1\n", ("toy.yaml", "unknown key 'v_lrr'", "v_lr")),
        ("zzzzzz: 1\n", ("unknown key 'zzzzzz'", "known keys: alg_name")),
        ("v_lr: fast\n", ("toy.yaml", "'v_lr' = 'fast'", "number")),
        ("stop: never\n", ("'stop' = 'never'", "'loss' or 'answer'")),
        ("alg_name: ROME\n", ("'alg_name' = 'ROME'", "'TOY'")),
        ("layers: [1\nv_lr: 1\n", ("toy.yaml, line 2", "not valid YAML")),
        ("- 1\n- 2\n", ("toy.yaml", "'key: value' lines, not list")),
        ("", ("toy.yaml", "not NoneType")),
        ("v_lr: fast\nstop: never\n", ("and 1 more",)),
        ("v_lr: .nan\n", ("'v_lr' = nan", "finite number")),
        ("v_lr: -.inf\n", ("'v_lr' = -inf", "finite number")),
        (f"v_lr: {'9' * 5000}\n", ("toy.yaml: cannot be read", "digits")),
        (f"seed: {2**80}\n", ("'seed'", "less than or equal to 2147483647")),
        ("seed: -1\n", ("'seed' = -1", "greater than or equal to 0")),
        ("max_length: 0\n", ("'max_length' = 0", "greater than or equal to 1")),
        ("v_lr: 2026-13-45\n", ("toy.yaml: cannot be read",)),
        ("v_lr: 2026-01-01\n", ("'v_lr' = datetime.date", "number")),
        ("v_lr: " + "[" * 5000 + "\n", ("toy.yaml: cannot be read",)),
        ("a: &a [x, x]\nb: [*a, *a]\n", ("toy.yaml, line 2, column 5", "aliases are not read here")),
        ("# " + "x" * 1_000_000 + "\n", ("toy.yaml: 1,000,003 bytes; a YAML file may have 1,000,000",)),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path, text, parts):
    with pytest.raises(UsageError) as caught:
        Toy.from_hparams(write(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []


def test_a_missing_and_an_unreadable_file_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.yaml: no such file"):
        Toy.from_hparams(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.yaml"):
        Toy.from_hparams(tmp_path / "binary.yaml")


def test_a_required_key_that_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match="key 'alg_name' is missing"):
        HParams.from_hparams(write(tmp_path, "device: 0\n"))


def test_a_misspelt_required_key_is_called_unknown_rather_than_missing(tmp_path):
    with pytest.raises(UsageError, match=r"unknown key 'alg_nam' for HParams; did you mean alg_name"):
        HParams.from_hparams(write(tmp_path, "alg_nam: TOY\n"))


def test_override_reads_strings_as_yaml_and_checks_them():
    toy = Toy().override({"layers": "[1, 2]", "v_lr": "1e-3", "model_parallel": "true"})
    assert (toy.layers, toy.v_lr, toy.model_parallel) == ((1, 2), 0.001, True)
    assert Toy().layers == (0,)
    with pytest.raises(UsageError, match="--set: unknown key 'layer'"):
        Toy().override({"layer": "1"})
    with pytest.raises(UsageError, match="--set v_lr: '\\[1' is not a YAML value"):
        Toy().override({"v_lr": "[1"})


def test_values_that_are_no_strings_are_left_alone():
    assert parse_value([1], "x") == [1]
    assert parse_value("none", "x") == "none"
