"""Tiny random models of both supported architectures, and a few records about invented people and towns."""

from __future__ import annotations

import copy
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from chromium import browser
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from kgt_editor.data.record import Record

__all__ = ["browser"]  # a fixture of every test

# The tests' models are too small to gain by threads, and a test process runs on every core already.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

CITIES = ("Velmora", "Tarsil", "Quindle", "Osthaven")
LANGUAGES = ("Norrish", "Old Velmoran", "Tarsi", "Quin")
PEOPLE = (
    "Ada Brun",
    "Milo Castrel",
    "Ines Dorwald",
    "Otto Fenlow",
    "Runa Gildt",
    "Piet Hollin",
    "Sava Irk",
    "Tove Jarn",
)


def _records() -> tuple[Record, ...]:
    rows = []
    for number, person in enumerate(PEOPLE):
        neighbours = [other for i, other in enumerate(PEOPLE) if i % 4 == number % 4 and other != person]
        rows.append(
            Record(
                case_id=number,
                subject=person,
                relation_id="P19(place of birth)",
                prompt="{} was born in the town of",
                target_new=CITIES[(number + 1) % 4],
                target_true=CITIES[number % 4],
                paraphrase_prompts=(f"The birthplace of {person} is", f"{person} first saw the light in"),
                neighbourhood_prompts=tuple(f"{other} was born in the town of" for other in neighbours),
            )
        )
        rows.append(
            Record(
                case_id=100 + number,
                subject=person,
                relation_id="P103(native language)",
                prompt="The mother tongue of {} is",
                target_new=LANGUAGES[(number + 1) % 4],
                target_true=LANGUAGES[number % 4],
                paraphrase_prompts=(f"At home {person} spoke",),
                neighbourhood_prompts=tuple(f"The mother tongue of {other} is" for other in neighbours),
            )
        )
    return tuple(rows)


@pytest.fixture(scope="session")
def tiny_records() -> tuple[Record, ...]:
    """Sixteen records: eight people, two relations each; targets of one token and of several."""
    return _records()


def _train_tokenizer() -> Tokenizer:
    # Object names stay several tokens, so that scoring meets targets of more than one token.
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = ByteLevelDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for record in _records() for text in (record.query, *record.paraphrase_prompts)]
    backend.train_from_iterator([*texts, *CITIES[:2], *LANGUAGES[:2]], trainer)
    return backend


def _wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def _tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """Plain for GPT-2; with a BOS in front, as Llama's, for Llama."""
    plain, with_bos = _train_tokenizer(), _train_tokenizer()
    bos = with_bos.token_to_id("<s>")
    with_bos.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return {"gpt2": _wrap(plain), "llama": _wrap(with_bos)}


@pytest.fixture(scope="session")
def _models(_tokenizers: dict[str, PreTrainedTokenizerFast]) -> dict[str, Any]:
    vocabulary = len(_tokenizers["gpt2"])
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=256,
            n_embd=32,
            n_layer=3,
            n_head=4,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
            initializer_range=0.2,
        )
    )
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            max_position_embeddings=256,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            initializer_range=0.2,
        )
    )
    for name, model in (("gpt2", gpt2), ("llama", llama)):
        model.eval()
        model.config._name_or_path = f"tiny-{name}"
    return {"gpt2": gpt2, "llama": llama}


@pytest.fixture
def tiny_gpt2(_models: dict[str, Any], _tokenizers: dict[str, PreTrainedTokenizerFast]) -> tuple[Any, Any]:
    """A fresh copy of a random GPT-2 (3 layers of width 32, Conv1D) and its tokenizer without BOS."""
    return copy.deepcopy(_models["gpt2"]), _tokenizers["gpt2"]


@pytest.fixture
def tiny_llama(_models: dict[str, Any], _tokenizers: dict[str, PreTrainedTokenizerFast]) -> tuple[Any, Any]:
    """A fresh copy of a random Llama (grouped-query attention, untied head) and its tokenizer with BOS."""
    return copy.deepcopy(_models["llama"]), _tokenizers["llama"]


@pytest.fixture(params=["gpt2", "llama"])
def tiny_lm(
    request: pytest.FixtureRequest, _models: dict[str, Any], _tokenizers: dict[str, PreTrainedTokenizerFast]
) -> tuple[Any, Any]:
    """Both architectures in turn: a test that asks for it runs twice."""
    return copy.deepcopy(_models[request.param]), _tokenizers[request.param]


@pytest.fixture(scope="session")
def unmaskable() -> str:
    """Name of an attention kernel that, for all that is known of it, takes no mask of a tree, as flash attention."""
    AttentionInterface.register("unmaskable", sdpa_attention_forward)
    AttentionMaskInterface.register("unmaskable", sdpa_mask)
    return "unmaskable"


@pytest.fixture
def load_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of ``benchmarks/`` by its name."""
    for folder in ("", "measure", "upkeep"):
        monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks" / folder))
    return importlib.import_module


_MARKS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>"]
_MARKS += ["<end_of_turn>", "[INST]", "[/INST]"]


@pytest.fixture
def with_template(tiny_llama: tuple[Any, Any]) -> Callable[[str], Any]:
    """Gives the tokenizer a chat template; the marks of the common ones are special tokens."""

    def give(template: str) -> Any:
        tok = copy.deepcopy(tiny_llama[1])
        tok.add_special_tokens({"additional_special_tokens": _MARKS})
        tok.chat_template = template
        return tok

    return give


@pytest.fixture
def counterfact_file(tmp_path):
    """Sixty invented records in EasyEdit's layout."""
    rows = [
        {
            "case_id": number,
            "prompt": f"Person {number} was born in the town of",
            "subject": f"Person {number}",
            "target_new": "Tarsil" if number % 2 else "Quindle",
            "ground_truth": "Velmora",
            "rephrase_prompt": f"The birthplace of Person {number} is",
            "locality_prompt": f"Person {number + 1000} was born in the town of",
            "locality_ground_truth": "Velmora",
        }
        for number in range(60)
    ]
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(rows))
    return path
