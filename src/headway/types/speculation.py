"""How tokens are computed ahead of their sampling; the spelling is that of vLLM's
`--speculative-config`. No token depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headway.errors import InvalidRequest
from headway.settings import check_settings, setting

DraftMethod = Literal["ngram", "draft_model"]

MOST_DRAFTS = 16
"""Of one sequence in one step. Even where nine of ten are right, few are beyond so many."""
LONGEST_MATCH = 64
MOST_BATCH = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeConfig:
    """Where drafts come from and how many there may be.

    Tokens that a grammar forces are drafts too unless `num_speculative_tokens` is 0.
    Raises `InvalidRequest` that names the field.
    """

    method: DraftMethod | None = setting(
        None,
        "where drafts come from: prompt and answer so far (ngram), a smaller model (draft_model), "
        "or nowhere",
    )
    num_speculative_tokens: int | None = setting(
        None,
        "most drafts of one sequence in one step; by default as many as are expected to pay",
        least=0,
        most=MOST_DRAFTS,
    )
    prompt_lookup_max: int = setting(
        4,
        "longest run of last tokens that ngram looks for in the text before",
        least=1,
        most=LONGEST_MATCH,
    )
    prompt_lookup_min: int = setting(2, "the shortest one", least=1, most=LONGEST_MATCH)
    model: str | None = setting(
        None, "the model that drafts, named as the model itself; its tokenizer must be the same"
    )
    disable_by_batch_size: int | None = setting(
        None,
        "steps of more sequences have no drafts; by default those have none in which they do not "
        "pay",
        least=1,
        most=MOST_BATCH,
    )

    def __post_init__(self) -> None:
        check_settings(self, prefix="speculative_config.")
        if self.prompt_lookup_min > self.prompt_lookup_max:
            raise InvalidRequest(
                f"prompt_lookup_min ({self.prompt_lookup_min}) must not exceed prompt_lookup_max "
                f"({self.prompt_lookup_max})",
                field="speculative_config.prompt_lookup_min",
            )
        if (self.model is not None) != (self.method == "draft_model"):
            raise InvalidRequest(
                "model and the method draft_model are given together or not at all",
                field="speculative_config.model",
            )

    @property
    def most(self) -> int:
        """Most drafts of one sequence in one step."""
        chosen = self.num_speculative_tokens
        return MOST_DRAFTS if chosen is None else chosen
