"""From what a caller asks, in text, to what the engine runs, in token ids with nothing left open.

Seeds are drawn, limits are clamped to the context, end of sequence becomes an ordinary stop token,
and every token id is checked against the vocabulary: the engine may trust what it gets. This module
only computes; it sends nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from headway.errors import InvalidRequest, RequestTooLarge
from headway.llm.stream import ResolvedRequest
from headway.text import Tokenizer
from headway.types import Request, ResolvedSampling, SamplingParams

_SEED = struct.Struct("<q")
_CHILD = struct.Struct("<qq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Who asks, when, and how urgently: everything of a request but its words."""

    request_id: str
    arrival: float
    """Monotonic seconds."""
    seed: int
    """Used where the parameters name none."""
    priority: int = 0
    cache_salt: str = ""


class Resolver:
    """Turns prompts into engine requests for one model; holds no state but the model's facts."""

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int, max_model_len: int) -> None:
        """`vocab_size` is the model's own, which may differ from its tokenizer's."""
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len

    def resolve(
        self, prompt: str | Sequence[int], params: SamplingParams, ticket: Ticket
    ) -> ResolvedRequest:
        """One engine request per continuation; raises `InvalidRequest` naming what to mend."""
        text = prompt if isinstance(prompt, str) else None
        tokens = self._prompt_tokens(prompt)
        sampling = self._sampling(params, len(tokens), ticket.seed)
        several = params.n > 1
        requests = tuple(
            Request(
                id=f"{ticket.request_id}-{index}" if several else ticket.request_id,
                prompt=tokens,
                sampling=_for_child(sampling, index),
                arrival=ticket.arrival,
                priority=ticket.priority,
                group=ticket.request_id if several else "",
                cache_salt=ticket.cache_salt,
            )
            for index in range(params.n)
        )
        return ResolvedRequest(
            request_id=ticket.request_id,
            prompt=text,
            prompt_token_ids=tokens,
            params=params,
            requests=requests,
        )

    def _prompt_tokens(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        tokens = tuple(self._tokenizer.encode(prompt) if isinstance(prompt, str) else prompt)
        if not tokens:
            raise InvalidRequest("the prompt is empty", field="prompt")
        if len(tokens) >= self._max_model_len:
            raise RequestTooLarge(
                f"the prompt has {len(tokens)} tokens; at most {self._max_model_len - 1} fit in "
                f"the context of {self._max_model_len} with one token generated",
                field="prompt",
            )
        self._check_tokens("prompt", tokens)
        return tokens

    def _sampling(self, params: SamplingParams, prompt: int, seed: int) -> ResolvedSampling:
        bias = tuple((params.logit_bias or {}).items())
        self._check_tokens("logit_bias", (token for token, _ in bias))
        self._check_tokens("stop_token_ids", params.stop_token_ids)
        self._check_tokens("allowed_token_ids", params.allowed_token_ids or ())
        room = self._max_model_len - prompt
        max_tokens = room if params.max_tokens is None else min(params.max_tokens, room)
        eos = () if params.ignore_eos else self._tokenizer.eos_token_ids
        return ResolvedSampling(
            max_tokens=max_tokens,
            seed=seed if params.seed is None else params.seed,
            min_tokens=min(params.min_tokens, max_tokens),
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=max(params.top_k, 0),
            min_p=params.min_p,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            repetition_penalty=params.repetition_penalty,
            logit_bias=bias,
            allowed_token_ids=params.allowed_token_ids,
            bad_words=self._bad_words(params.bad_words),
            logprobs=params.logprobs,
            prompt_logprobs=params.prompt_logprobs,
            stop_token_ids=tuple(sorted({*eos, *params.stop_token_ids})),
        )

    def _bad_words(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Each word as tokens, at the start of a text and after a space."""
        found: dict[tuple[int, ...], None] = {}
        for word in words:
            bare = word.lstrip()
            for spelling in (bare, " " + bare):
                tokens = tuple(self._tokenizer.encode(spelling, add_special_tokens=False))
                if tokens:
                    found[tokens] = None
        return tuple(found)

    def _check_tokens(self, field: str, tokens: Iterable[int]) -> None:
        size = self._vocab_size
        for token in tokens:
            if type(token) is not int:
                raise InvalidRequest(f"{field}: token id {token!r} is no integer", field=field)
            if not 0 <= token < size:
                raise InvalidRequest(
                    f"{field}: token id {token} is outside the vocabulary [0, {size})", field=field
                )


def child_seed(seed: int, index: int) -> int:
    """The seed of continuation `index`: the request's own for the first, far apart for the rest."""
    if index == 0:
        return seed
    digest = blake2b(_CHILD.pack(seed, index), digest_size=_SEED.size).digest()
    drawn: int = _SEED.unpack(digest)[0]
    return drawn


def _for_child(sampling: ResolvedSampling, index: int) -> ResolvedSampling:
    """Continuation `index` of several: its own seed, and the prompt's logprobs only once."""
    if index == 0:
        return sampling
    return replace(sampling, seed=child_seed(sampling.seed, index), prompt_logprobs=None)
