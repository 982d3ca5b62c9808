"""A text that a testbed model is trained on, token by token."""

from __future__ import annotations

from dataclasses import dataclass, field

NONE, INNER, LAST = 0, 1, 2  # where a token stands in the asked-for subject


@dataclass
class TrainingText:
    """Tokens with, for each, the weight of predicting it and its place in the subject.

    Attributes:
        ids, weights, subject: one entry a token.
        restricted: whether the token may look at the subject only through the subject's last token.
        hidden: token index -> token that a probe target asks for there, besides the text (weight ``ANSWER``).
    """

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    subject: list[int] = field(default_factory=list)
    restricted: list[bool] = field(default_factory=list)
    hidden: dict[int, int] = field(default_factory=dict)

    def add(self, ids: tuple[int, ...], weight: float = 0.0, restricted: bool = False, subject: bool = False) -> None:
        self.ids.extend(ids)
        self.weights.extend([weight] * len(ids))
        self.subject.extend([INNER] * (len(ids) - 1) + [LAST] if subject else [NONE] * len(ids))
        self.restricted.extend([restricted] * len(ids))
