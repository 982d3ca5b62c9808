"""Models for EleutherAI's lm-evaluation-harness: plain ones, and those that an editor has given their user's facts.

    import lm_eval
    from kgt_editor.lm_eval import EditedLM

    results = lm_eval.simple_evaluate(EditedLM(model, tok), tasks=["mmlu"])

The harness is an extra: ``pip install 'kgt_editor[harness]'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kgt_editor.errors import UsageError
from kgt_editor.evaluation.scorer import scorer
from kgt_editor.lm.prompted import PromptedLM

if TYPE_CHECKING:
    HFLM: Any = object
else:
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise UsageError(
            f"lm-evaluation-harness cannot be imported ({error}): pip install 'kgt_editor[harness]'"
        ) from error


class EditedLM(HFLM):
    """What the harness asks of a language model, answered by one that may have been edited.

    Continuations are scored as everywhere here, facts being looked up for the context alone; what has no context, or
    stands to it without a space, goes through the model's ``forward``, as the harness does it.

    Args:
        model: a causal LM of transformers, or one that an editor has wrapped (KGT's, in-context learning's, OPPU's).
        tok: its tokenizer.
        kwargs: of ``lm_eval.models.huggingface.HFLM``, ``batch_size`` for one.
    """

    def __init__(self, model: Any, tok: Any, **kwargs: Any) -> None:
        # The harness prepares what it is given (ties weights, moves it): that is the language model itself.
        super().__init__(
            pretrained=model.lm if isinstance(model, PromptedLM) else model, tokenizer=tok, backend="causal", **kwargs
        )
        self._model = model
        self._score = scorer(model, tok)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log probability of each continuation behind its context, and whether it is the greedy one.

        Args:
            requests: instances whose ``args`` are context and continuation.
            disable_tqdm: no progress bar.
        """
        apart = [index for index, one in enumerate(requests) if _is_apart(*one.args)]
        found: dict[int, tuple[float, bool]] = {}
        if apart:
            asked = [requests[index].args for index in apart]
            scores = self._score([context for context, _ in asked], [continuation for _, continuation in asked])
            found.update((i, (score.log_prob, score.greedy)) for i, score in zip(apart, scores, strict=True))
        rest = [index for index in range(len(requests)) if index not in found]
        if rest:
            own = super().loglikelihood([requests[index] for index in rest], disable_tqdm=disable_tqdm)
            found.update(zip(rest, own, strict=True))
        return [found[index] for index in range(len(requests))]


def _is_apart(context: str, continuation: str) -> bool:
    """Whether there are two texts, with space between them."""
    return bool(context.strip() and continuation.strip()) and (context[-1].isspace() or continuation[0].isspace())
