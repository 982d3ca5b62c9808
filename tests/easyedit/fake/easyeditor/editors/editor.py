"""An editor that calls a method and looks at its model as EasyEdit's ``BaseEditor`` does."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..util.alg_dict import ALG_DICT
from .batch_editor import BatchEditor
from .utils import CALLABLE_RESTORE_ALGS


class BaseEditor:
    @classmethod
    def from_hparams(cls, hparams):
        return cls(hparams)

    def __init__(self, hparams):
        self.hparams, self.alg_name, self.model_name = hparams, hparams.alg_name, hparams.model_name
        self.apply_algo = ALG_DICT[hparams.alg_name]
        if "gpt" not in self.model_name.lower() and "llama" not in self.model_name.lower():
            raise NotImplementedError
        self.model = AutoModelForCausalLM.from_pretrained(self.model_name, dtype=torch.float32)
        self.tok = AutoTokenizer.from_pretrained(self.model_name)
        self.tok.pad_token_id = self.tok.eos_token_id
        self.tok.padding_side = "left"
        self.model.to(torch.device(f"cuda:{hparams.device}" if isinstance(hparams.device, int) else hparams.device))

    def edit(self, prompts, target_new, subject, rephrase_prompts, locality_inputs, sequential_edit=False, **kwargs):
        if hasattr(self.hparams, "batch_size"):
            assert self.hparams.batch_size == 1
        requests = [
            {
                "prompt": prompt,
                "target_new": target,
                "ground_truth": None,
                "portability": {},
                "subject": name,
                "rephrase_prompt": rephrased,
                "locality": {key: {"prompt": asked["prompt"][i], "ground_truth": asked["ground_truth"][i]}},
            }
            for i, (prompt, target, name, rephrased) in enumerate(
                zip(prompts, target_new, subject, rephrase_prompts, strict=True)
            )
            for key, asked in locality_inputs.items()
        ]
        metrics = [{"pre": self.look(self.model, request)} for request in requests]
        for metric, request in zip(metrics, requests, strict=True):
            model, weights = self.apply_algo(
                self.model,  # the plain model every time
                self.tok,
                [request],
                self.hparams,
                copy=False,
                return_orig_weights=True,
                keep_original_weight=False,
                train_ds=None,
            )
            metric["post"] = self.look(model, request)
            if not sequential_edit:
                if self.alg_name in CALLABLE_RESTORE_ALGS:
                    weights()
                else:
                    for name, value in weights.items():
                        self.model.get_parameter(name)[...] = value
        return metrics, model, weights

    def batch_edit(self, prompts, target_new, subject, sequential_edit=False):
        assert BatchEditor.is_batchable_method(self.alg_name)
        requests = self.requests(prompts, target_new, subject)
        for start in range(0, len(requests), self.hparams.batch_size):
            chunk = requests[start : start + self.hparams.batch_size]
            edited, weights = self.apply_algo(
                self.model, self.tok, chunk, self.hparams, copy=False, return_orig_weights=True
            )
            if sequential_edit:
                self.model = edited
            else:
                weights()
        return edited, weights

    def requests(self, prompts, target_new, subject):
        return [
            {"prompt": prompt, "target_new": target, "subject": name, "ground_truth": None}
            for prompt, target, name in zip(prompts, target_new, subject, strict=True)
        ]

    def look(self, model, request):
        locality = next(iter(request["locality"].values()))
        answers, _ = self.predict(model, locality["prompt"], locality["ground_truth"])
        found = {"locality": answers}
        for key, prompt in (("rewrite_acc", request["prompt"]), ("rephrase_acc", request["rephrase_prompt"])):
            answers, labels = self.predict(model, [prompt], [request["target_new"]])
            found[key] = sum(a == b for a, b in zip(answers[0], labels[0], strict=True)) / len(labels[0])
        return found

    def predict(self, model, prompts, targets):
        """Greedy and wanted tokens at the targets' places; prompt and target are one text, padded on the left."""
        lengths = [len(self.tok(prompt).input_ids) for prompt in prompts]
        rows = [f"{prompt} {target}" for prompt, target in zip(prompts, targets, strict=True)]
        batch = self.tok(rows, padding=True, truncation=True, max_length=self.hparams.max_length, return_tensors="pt")
        with torch.no_grad():
            best = model(**batch.to(self.model.device)).logits.argmax(-1)
        answers, labels = [], []
        for row, length in enumerate(lengths):
            start = int((batch.attention_mask[row] == 0).sum()) + length
            answers.append(best[row, start - 1 : -1].tolist())
            labels.append(batch.input_ids[row, start:].tolist())
        return answers, labels
