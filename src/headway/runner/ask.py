"""What the sampler is told of one row, and when there is nothing to sample.

Shared by all runners; knows no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headway.types import ResolvedSampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One token to be chosen: how, after which tokens, and at which position."""

    sampling: ResolvedSampling
    tokens: npt.NDArray[np.int64]
    """All tokens so far; `tokens[:prompt_len]` are the prompt."""
    prompt_len: int
    plain: bool
    """The highest score wins, unchanged (see `is_plain`)."""

    @property
    def position(self) -> int:
        """Of the token to be chosen, counted from the prompt's first."""
        return len(self.tokens)

    @property
    def generated(self) -> npt.NDArray[np.int64]:
        return self.tokens[self.prompt_len :]


def is_plain(sampling: ResolvedSampling) -> bool:
    """Whether the token is simply that of the model's highest score."""
    return not (
        sampling.temperature != 0.0
        or sampling.allowed_token_ids is not None
        or sampling.bad_words
        or sampling.min_tokens > 0
        or sampling.logit_bias
        or sampling.repetition_penalty != 1.0
        or sampling.frequency_penalty != 0.0
        or sampling.presence_penalty != 0.0
    )
