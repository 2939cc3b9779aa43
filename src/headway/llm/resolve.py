"""From what a caller asks, in text, to what the engine runs, in token ids with nothing left open.

Seeds are drawn, limits are clamped to the context, end of sequence becomes an ordinary stop token,
every token id is checked against the vocabulary, and a request that brings no objectives gets those
of its class: the engine may trust what it gets. This module only computes; it sends nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from headway.errors import InvalidRequest, RequestTooLarge
from headway.llm.prompt import Prompt, TokensPrompt, encode_now
from headway.llm.thinking import of_prompt, thinking_budget
from headway.message import ReasoningFormat
from headway.text import Tokenizer
from headway.types import (
    NOBODY,
    SERVICE_CLASSES,
    Owner,
    Request,
    ResolvedSampling,
    SamplingParams,
    ServiceClass,
)
from headway.types.objectives import Objective, with_defaults
from headway.types.sampling import WHOLE_VOCABULARY

MOST_NAMED = 16
"""Token ids that one error tells."""

_SEED = struct.Struct("<q")
_CHILD = struct.Struct("<qq")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What was asked, resolved: every prompt in token ids, and one engine request a continuation.

    Continuation c of prompt p is choice p * n + c; `requests` are in that order.
    """

    id: str
    prompts: tuple[TokensPrompt, ...]
    params: SamplingParams
    requests: tuple[Request, ...]

    @property
    def max_tokens(self) -> int:
        """The most tokens of a continuation: as asked, or as many as fit after a prompt."""
        if self.params.max_tokens is not None:
            return self.params.max_tokens
        return max(request.sampling.max_tokens for request in self.requests)

    @property
    def distinct(self) -> tuple[Request, ...]:
        """Those of `requests` that are worth running: one a prompt where nothing is drawn."""
        return self.requests[:: self.params.n] if self.params.greedy else self.requests

    @property
    def repeatable(self) -> bool:
        """Whether its tokens are a function of what was asked, so that others may get the same."""
        return self.params.greedy or self.params.seed is not None

    def prompt_of(self, choice: int) -> TokensPrompt:
        """The prompt that a choice continues."""
        return self.prompts[choice // self.params.n]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms prompts are served: for whom, how urgently, and who may share their prefixes.

    `objectives` take the place of those that the class has for the same metrics. `prediction` are
    tokens that answers may repeat; those beyond the context are left out.
    """

    priority: int = 0
    cache_salt: str = ""
    owner: Owner = NOBODY
    objectives: tuple[Objective, ...] = ()
    service_class: ServiceClass = "standard"
    prediction: tuple[int, ...] = ()


DEFAULT_TERMS = Terms()


class Resolver:
    """Turns prompts into engine requests for one model; holds no state but the model's facts."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        max_model_len: int,
        objectives: Mapping[ServiceClass, tuple[Objective, ...]] | None = None,
    ) -> None:
        """`vocab_size` is the model's own, which may differ from its tokenizer's.

        `objectives` are those of requests that bring none, by class.
        """
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._objectives = objectives or {}

    def resolve(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        *,
        request_id: str,
        arrival: float,
        seeds: Sequence[int],
        terms: Terms = DEFAULT_TERMS,
        reasoning: ReasoningFormat | None = None,
    ) -> GenerationRequest:
        """One engine request per continuation of each prompt.

        `arrival` is in monotonic seconds; `seeds` has one for each prompt, used where the
        parameters name none. `reasoning` is how the model marks it, if that is known. Raises
        `InvalidRequest` naming the field to mend.
        """
        objectives = self._objectives_of(terms, params)
        self._check_tokens("prediction", terms.prediction)
        encoded = tuple(
            encode_now(self._tokenizer, prompt, max_model_len=self._max_model_len)
            for prompt in prompts
        )
        # What does not depend on the prompt is made once, and all continuations share it.
        shared = self._sampling(params, reasoning)
        requests: list[Request] = []
        for number, (prompt, seed) in enumerate(zip(encoded, seeds, strict=True)):
            self._check_prompt(prompt)
            sampling = self._for_prompt(shared, params, prompt.token_ids, seed, reasoning)
            name = request_id if len(encoded) == 1 else f"{request_id}-p{number}"
            requests += (
                Request(
                    id=f"{name}-{index}" if params.n > 1 else name,
                    prompt=prompt.token_ids,
                    sampling=_for_child(sampling, index),
                    arrival=arrival,
                    priority=terms.priority,
                    group=name if params.n > 1 else "",
                    cache_salt=terms.cache_salt,
                    prediction=terms.prediction[: self._max_model_len],
                    tenant=terms.owner.tenant,
                    caller=terms.owner.caller,
                    objectives=objectives,
                    service_class=terms.service_class,
                )
                for index in range(params.n)
            )
        return GenerationRequest(
            id=request_id, prompts=encoded, params=params, requests=tuple(requests)
        )

    def _objectives_of(self, terms: Terms, params: SamplingParams) -> tuple[Objective, ...]:
        asked = terms.service_class
        if asked not in SERVICE_CLASSES:
            raise InvalidRequest(
                f"service_class: {asked!r:.60} is none of {', '.join(SERVICE_CLASSES)}",
                field="service_class",
            )
        if params.use_beam_search:
            if terms.objectives:
                raise InvalidRequest(
                    "objectives are not kept by a search of beams: it has no token before its end",
                    field="objectives",
                )
            return ()
        return with_defaults(terms.objectives, self._objectives.get(asked, ()))

    def _check_prompt(self, prompt: TokensPrompt) -> None:
        tokens = prompt.token_ids
        if not tokens:
            raise InvalidRequest("the prompt is empty", field="prompt")
        if len(tokens) >= self._max_model_len:
            raise RequestTooLarge(
                f"the prompt has {len(tokens)} tokens; at most {self._max_model_len - 1} fit in "
                f"the context of {self._max_model_len} with one token generated",
                field="prompt",
            )
        # Those of a text are the tokenizer's, whose vocabulary may yet be larger than the model's.
        if prompt.text is None or max(tokens) >= self._vocab_size:
            self._check_tokens("prompt", tokens)

    def _sampling(
        self, params: SamplingParams, reasoning: ReasoningFormat | None
    ) -> ResolvedSampling:
        """All that is the same for every prompt; seed and lengths are still to be filled in."""
        bias = tuple((params.logit_bias or {}).items())
        self._check_tokens("logit_bias", [token for token, _ in bias])
        self._check_tokens("stop_token_ids", params.stop_token_ids)
        self._check_tokens("allowed_token_ids", params.allowed_token_ids or ())
        listed = params.logprob_token_ids or ()
        self._check_tokens("logprob_token_ids", listed)
        budget = thinking_budget(params.thinking_token_budget, reasoning, self._tokenizer)
        self._check_tokens("thinking_token_budget", () if budget is None else budget.closing_tokens)
        structured = params.structured_outputs
        eos = () if params.ignore_eos else self._tokenizer.eos_token_ids
        return ResolvedSampling(
            max_tokens=1,
            seed=0,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=max(params.top_k, 0),
            min_p=params.min_p,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            repetition_penalty=params.repetition_penalty,
            repeat_last_n=params.repeat_last_n,
            logit_bias=bias,
            allowed_token_ids=params.allowed_token_ids,
            bad_words=self._bad_words(params.bad_words),
            logprobs=0 if listed else self._alternatives(params.logprobs),
            logprob_token_ids=listed,
            prompt_logprobs=self._alternatives(params.prompt_logprobs),
            stop_token_ids=tuple(sorted({*eos, *params.stop_token_ids})),
            structured_outputs=None if structured is None else structured.resolved(),
            thinking_token_budget=budget,
        )

    def _alternatives(self, asked: int | None) -> int | None:
        return self._vocab_size if asked == WHOLE_VOCABULARY else asked

    def _for_prompt(
        self,
        shared: ResolvedSampling,
        params: SamplingParams,
        prompt: Sequence[int],
        seed: int,
        reasoning: ReasoningFormat | None,
    ) -> ResolvedSampling:
        """With the lengths that are left after a prompt, whether it opens reasoning, its seed."""
        room = self._max_model_len - len(prompt)
        budget = shared.thinking_token_budget
        max_tokens = room if params.max_tokens is None else min(params.max_tokens, room)
        return replace(
            shared,
            max_tokens=max_tokens,
            min_tokens=min(params.min_tokens, max_tokens),
            seed=seed if params.seed is None else params.seed,
            thinking_token_budget=of_prompt(budget, reasoning, self._tokenizer, prompt),
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

    def _check_tokens(self, field: str, tokens: Sequence[int]) -> None:
        size = self._vocab_size
        # Lists may be as long as the context or the vocabulary: no step of Python for each token.
        if not tokens or (_are_ints(tokens) and min(tokens) >= 0 and max(tokens) < size):
            return
        for token in tokens:
            if type(token) is not int:
                raise InvalidRequest(f"{field}: token id {token!r} is no integer", field=field)
        outside = [token for token in tokens if not 0 <= token < size]
        named = ", ".join(map(str, outside[:MOST_NAMED]))
        more = f" and {len(outside) - MOST_NAMED} more" if len(outside) > MOST_NAMED else ""
        raise InvalidRequest(
            f"{field}: token ids {named}{more} are outside the vocabulary [0, {size})", field=field
        )


def _are_ints(tokens: Sequence[int]) -> bool:
    return set(map(type, tokens)) == {int}


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
