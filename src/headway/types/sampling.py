"""How tokens are chosen: the user's words (`SamplingParams`) and the engine's (`ResolvedSampling`).

`SamplingParams` has vLLM's names and defaults and may speak of text (stop strings, bad words).
`ResolvedSampling` speaks of token ids only and has nothing left open: the seed is drawn, end of
sequence is an ordinary stop token, the length limit is a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from headway.errors import InvalidRequest
from headway.types.grammar import Grammar, StructuredOutputsParams
from headway.types.thinking import MAX_THINKING_TOKENS, UNLIMITED, ThinkingBudget

NOTHING_LEFT = "the sampling parameters leave no token to choose"
"""The error of a request that bans every token, such as by allowing only those that stop it while
`min_tokens` are not reached. What is banned may depend on the tokens so far."""

MAX_N = 128
MAX_LOGPROBS = 20
MAX_LOGPROB_TOKEN_IDS = 128
ALL_TOKENS = -1
"""As a number of last tokens: every one of prompt and answer."""
WHOLE_VOCABULARY = -1
"""As a number of alternatives: all tokens."""
MAX_LAST_TOKENS = 2**31 - 1
MAX_BEAMS = 32
"""Each is a sequence, and has the likeliest 2n tokens looked at in every step."""
MAX_LENGTH_PENALTY = 10.0
MAX_STOP_STRINGS = 64
MAX_STOP_CHARACTERS = 1024
"""Of each stop string."""
MAX_LIST = 4096
MAX_ALLOWED = 2**20
"""Entries of `allowed_token_ids`, which may hold a whole vocabulary."""
MAX_BAD_WORD_CHARACTERS = 2**15
"""Of all bad words together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """What a caller may ask of sampling; raises `InvalidRequest` that names the field.

    `max_tokens` None means "as many as fit". `temperature` 0 is greedy. `top_k` 0 or -1 and
    `top_p` 1 switch those steps off. `logprobs` k asks for the k likeliest tokens at each
    generated position beside the chosen one, `prompt_logprobs` k the same over the prompt; -1 is
    the whole vocabulary. `logprob_token_ids` names the tokens beside the chosen one instead.
    Lists that are sets by nature keep each entry once. `structured_outputs` says what the text
    must match; it ends where that is complete, even before `min_tokens`. After
    `thinking_token_budget` tokens of reasoning, the text that closes it comes next, whatever else
    is asked; 0 is no reasoning, -1 any. Penalties look at the `repeat_last_n` last tokens alone,
    unless that is -1. With `use_beam_search` the
    continuations are the `n` likeliest that a search of as many beams finds, and nothing is drawn;
    their log probabilities are divided by the length (prompt included) to the `length_penalty`.
    """

    n: int = 1
    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: tuple[int, ...] | None = None
    seed: int | None = None
    stop: tuple[str, ...] | str = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    structured_outputs: StructuredOutputsParams | None = None
    use_beam_search: bool = False
    length_penalty: float = 1.0
    thinking_token_budget: int | None = None
    repeat_last_n: int = ALL_TOKENS

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        for name in _SETS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(dict.fromkeys(value)))
        for field in fields(self):
            _finite(field.name, getattr(self, field.name))
        self._check_ranges()
        self._check_lists()
        if self.structured_outputs is not None and self.ignore_eos:
            raise InvalidRequest(
                "ignore_eos contradicts structured_outputs: what they describe has an end",
                field="ignore_eos",
            )
        if self.use_beam_search:
            self._check_beams()
        elif self.length_penalty != 1.0:
            raise InvalidRequest("length_penalty needs use_beam_search", field="length_penalty")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    def _check_ranges(self) -> None:
        _within("n", self.n, 1, MAX_N)
        if self.max_tokens is not None:
            _within("max_tokens", self.max_tokens, 1)
        _within("min_tokens", self.min_tokens, 0)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequest(
                f"min_tokens ({self.min_tokens}) is greater than max_tokens ({self.max_tokens})",
                field="min_tokens",
            )
        _within("temperature", self.temperature, 0.0, 100.0)
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidRequest(f"top_p must be in (0, 1], got {self.top_p}", field="top_p")
        _within("top_k", self.top_k, -1)
        _within("min_p", self.min_p, 0.0, 1.0)
        _within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        if not 0.0 < self.repetition_penalty <= 100.0:
            raise InvalidRequest(
                f"repetition_penalty must be in (0, 100], got {self.repetition_penalty}",
                field="repetition_penalty",
            )
        _within("repeat_last_n", self.repeat_last_n, ALL_TOKENS, MAX_LAST_TOKENS)
        if self.logprobs is not None:
            _within("logprobs", self.logprobs, WHOLE_VOCABULARY, MAX_LOGPROBS)
        if self.prompt_logprobs is not None:
            _within("prompt_logprobs", self.prompt_logprobs, WHOLE_VOCABULARY, MAX_LOGPROBS)
        if self.thinking_token_budget is not None:
            budget = self.thinking_token_budget
            _within("thinking_token_budget", budget, UNLIMITED, MAX_THINKING_TOKENS)
        if self.seed is not None:
            _within("seed", self.seed, -(2**63), 2**63 - 1)

    def _check_beams(self) -> None:
        _within("n", self.n, 1, MAX_BEAMS)
        _within("length_penalty", self.length_penalty, -MAX_LENGTH_PENALTY, MAX_LENGTH_PENALTY)
        for name, usual in _WITHOUT_BEAMS.items():
            if getattr(self, name) != usual:
                raise InvalidRequest(
                    f"{name} is not available with use_beam_search: beams are followed by the "
                    "model's own log probabilities, and nothing is drawn",
                    field=name,
                )

    def _check_lists(self) -> None:
        for name, most in _LONGEST.items():
            value = getattr(self, name)
            if value is not None and len(value) > most:
                raise InvalidRequest(f"{name} has more than {most} entries", field=name)
        if any(text == "" for text in self.stop):
            raise InvalidRequest("stop contains an empty string", field="stop")
        if any(len(text) > MAX_STOP_CHARACTERS for text in self.stop):
            raise InvalidRequest(
                f"stop contains a string of more than {MAX_STOP_CHARACTERS} characters",
                field="stop",
            )
        if any(text.strip() == "" for text in self.bad_words):
            raise InvalidRequest("bad_words contains a blank string", field="bad_words")
        if sum(map(len, self.bad_words)) > MAX_BAD_WORD_CHARACTERS:
            raise InvalidRequest(
                f"bad_words have more than {MAX_BAD_WORD_CHARACTERS} characters together",
                field="bad_words",
            )
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise InvalidRequest("allowed_token_ids is empty", field="allowed_token_ids")
        for token, bias in (self.logit_bias or {}).items():
            if not -100.0 <= bias <= 100.0:
                raise InvalidRequest(
                    f"logit_bias of token {token} must be in [-100, 100], got {bias}",
                    field="logit_bias",
                )


_WITHOUT_BEAMS: dict[str, object] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "min_tokens": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "logit_bias": None,
    "allowed_token_ids": None,
    "bad_words": (),
    "prompt_logprobs": None,
    "logprob_token_ids": None,
    "stop": (),
    "structured_outputs": None,
    "thinking_token_budget": None,
    "repeat_last_n": ALL_TOKENS,
}
"""What a search cannot keep to, and the only values it takes."""
_SETS = ("stop", "stop_token_ids", "bad_words", "allowed_token_ids", "logprob_token_ids")
_LONGEST = {
    "stop": MAX_STOP_STRINGS,
    "stop_token_ids": MAX_LIST,
    "bad_words": MAX_LIST,
    "allowed_token_ids": MAX_ALLOWED,
    "logprob_token_ids": MAX_LOGPROB_TOKEN_IDS,
    "logit_bias": MAX_LIST,
}
"""Most entries of each list, those that are given twice counted once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSampling:
    """Sampling as the engine computes it, for one continuation. See `SamplingParams`.

    `seed` is this continuation's own: with the position it determines every random number, so the
    tokens do not depend on the batch. `stop_token_ids` includes the model's end-of-sequence ids
    unless the caller ignores them; none of them is sampled before `min_tokens`. `bad_words` are
    token sequences whose last token is banned where the others were just generated. With
    `structured_outputs`, only tokens that keep the generated text within that grammar are sampled,
    and a stop token of the model only where the text is complete. Where there are
    `logprob_token_ids`, `logprobs` is not None and these tokens take the place of the likeliest.
    `thinking_token_budget` bounds the reasoning: the tokens that end it come even if all the rest
    rules them out, but for a grammar, which they wait for.
    """

    max_tokens: int
    seed: int
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    structured_outputs: Grammar | None = None
    logprob_token_ids: tuple[int, ...] = ()
    thinking_token_budget: ThinkingBudget | None = None
    repeat_last_n: int = ALL_TOKENS


def _finite(name: str, value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"{name} must be a finite number, got {value}", field=name)


def _within(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not low <= value <= high:
        bound = f"at least {low}" if high == math.inf else f"in [{low}, {high}]"
        raise InvalidRequest(f"{name} must be {bound}, got {value}", field=name)
