"""Edited models in lm-evaluation-harness, where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kgt_editor.data.ability import Question, Task
from kgt_editor.editors.kgt import apply_kgt_to_model
from kgt_editor.evaluation.ability import answer
from kgt_editor.evaluation.scorer import scorer
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM

lm_eval = pytest.importorskip("lm_eval", reason="no lm-evaluation-harness: pip install 'kgt_editor[harness]'")

LM = tuple[Any, Any]
FACT = {"prompt": "The mother tongue of Ada Brun is", "subject": "Ada Brun", "target_new": "Old Velmoran"}
BORN = [("Ada Brun", 0), ("Milo Castrel", 1), ("Ines Dorwald", 2), ("Otto Fenlow", 1)]
QUESTIONS = [Question(f"{name} was born in the town of", ("Velmora", "Tarsil", "Quindle"), at) for name, at in BORN]
QUESTIONS.append(Question("The mother tongue of Ada Brun is", ("Old Velmoran", "Quin", "Norrish"), 0))
TASK = Task("towns", (), tuple(QUESTIONS))


def edited(lm: LM) -> KGEnhancedLM:
    hparams = KGTHyperParams(relation_source="query", retrieval_min=0.01)
    return apply_kgt_to_model(*lm, [FACT], hparams)[0]


def harness(model: Any, tok: Any, folder: Path) -> dict[str, Any]:
    """The task as the harness asks it, from a file of its own."""
    from kgt_editor.lm_eval import EditedLM

    rows = [{"q": one.prompt, "options": list(one.options), "a": one.answer} for one in TASK.questions]
    (folder / "towns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "task": "towns",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "towns.jsonl")}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "acc"}],
    }
    found = lm_eval.simple_evaluate(
        EditedLM(model, tok), tasks=[config], log_samples=True, bootstrap_iters=0, verbosity="ERROR"
    )
    assert found is not None
    return found


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_harness_reports_what_our_own_loop_does(tiny_lm: LM, tmp_path: Path, wrapped: bool) -> None:
    model = edited(tiny_lm) if wrapped else tiny_lm[0]
    own = answer(scorer(model, tiny_lm[1]), TASK)
    found = harness(model, tiny_lm[1], tmp_path)
    assert found["results"]["towns"]["acc,none"] == pytest.approx(own.accuracy, abs=1e-6)
    log_probs = [float(first) for one in found["samples"]["towns"] for ((first, _),) in one["resps"]]
    assert log_probs == pytest.approx(own.log_probs, abs=1e-3)


def test_what_has_no_context_goes_through_forward_and_the_rest_in_its_place(tiny_llama: LM) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from kgt_editor.lm_eval import EditedLM

    asked = [("", "Velmora lies by the sea"), ("Ada Brun was born in", " Tarsil"), ("The number is 1", "2")]
    instances = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(asked)]
    theirs = HFLM(pretrained=tiny_llama[0], tokenizer=tiny_llama[1]).loglikelihood(instances, disable_tqdm=True)
    ours = EditedLM(*tiny_llama).loglikelihood(instances, disable_tqdm=True)
    assert [one[0] for one in ours] == pytest.approx([one[0] for one in theirs], abs=1e-3)
    assert [one[1] for one in ours] == [one[1] for one in theirs]


def test_it_writes_with_its_facts_and_reads_whole_texts(tiny_llama: LM) -> None:
    from lm_eval.api.instance import Instance

    from kgt_editor.lm_eval import EditedLM

    model = edited(tiny_llama)
    until = Instance("generate_until", {}, (FACT["prompt"], {"until": ["\n"], "max_gen_toks": 6}), 0)
    (text,) = EditedLM(model, tiny_llama[1]).generate_until([until], disable_tqdm=True)
    assert text.strip().startswith(model.answer(FACT["prompt"], 6).split("\n")[0][:8])
    rolling = Instance("loglikelihood_rolling", {}, ("Velmora lies by the sea.",), 0)
    plain, wrapped = (EditedLM(one, tiny_llama[1]) for one in (tiny_llama[0], model))
    expected = plain.loglikelihood_rolling([rolling], disable_tqdm=True)
    assert wrapped.loglikelihood_rolling([rolling], disable_tqdm=True) == pytest.approx(expected, abs=1e-3)
