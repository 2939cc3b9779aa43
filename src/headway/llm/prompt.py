"""From a prompt as it is given to the token ids that the model reads.

Encoding takes time in proportion to a text's length, and clients choose that. So no more of a text
is encoded than can matter, long texts are encoded off the event loop, and few at once, because the
cores belong to the engine. This module knows neither bodies of requests nor sampling.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from headway.errors import InvalidRequest, Overloaded, RequestTooLarge
from headway.text import Tokenizer

LONG_TEXT = 8192
"""Characters from which a text is encoded in a thread, so that the event loop stays responsive."""
VERY_LONG_TEXT = 128 * 1024
"""Characters from which a text has a thread of its own kind, so that long ones need not wait."""
MAX_WAITING_CHARACTERS = 64 * 2**20
"""Of the texts being encoded in threads, or waiting for it; one more is refused."""
MAX_TOKEN_CHARACTERS = 128
"""Mean characters per token that no real text reaches: a text longer than the context times this
cannot fit, and is refused without being encoded."""
USUAL_TOKEN_CHARACTERS = 16
"""Mean characters per token that few texts reach: of a text longer than this many times the tokens
that are asked for, a part is looked at first."""
MARGIN = 64
"""Tokens near a cut that may differ from those of the whole text."""
RETRY_AFTER = 1.0

_SAFE_CUT = re.compile(r"(?<=\w)[ \n](?=\w)")
_CUT_WINDOW = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensPrompt:
    """A prompt as token ids, with the text that they came from where a text was given."""

    token_ids: tuple[int, ...]
    text: str | None = None


Prompt = str | Sequence[int] | TokensPrompt
"""A text (which gets the model's special tokens), token ids, or both."""


def encode_now(tokenizer: Tokenizer, prompt: Prompt, *, max_model_len: int) -> TokensPrompt:
    """The prompt in token ids, encoded on the spot; token ids are taken as they are.

    Raises `RequestTooLarge` for a text that cannot fit however it is encoded.
    """
    if isinstance(prompt, TokensPrompt):
        return prompt
    if isinstance(prompt, str):
        check_length(prompt, max_model_len)
        check_fits(tokenizer, prompt, max_model_len)
        return TokensPrompt(token_ids=tuple(tokenizer.encode(prompt)), text=prompt)
    return TokensPrompt(token_ids=tuple(prompt))


class PromptEncoder:
    """Encodes prompts for one model, on one event loop; `close` it in the end."""

    def __init__(self, tokenizer: Tokenizer, *, max_model_len: int) -> None:
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        # One thread each: a queue in order, whose waiting members can be cancelled.
        self._long = ThreadPoolExecutor(1, thread_name_prefix="headway-encode")
        self._very_long = ThreadPoolExecutor(1, thread_name_prefix="headway-encode-long")
        self._lock = threading.Lock()
        self._waiting = 0
        self._unbroken = 0
        """Characters encoded on the event loop since others last had their turn."""

    async def encode(
        self,
        prompt: str | Sequence[int],
        *,
        add_special_tokens: bool = True,
        truncate_to: int | None = None,
        keep_first: bool = False,
        must_fit: bool = True,
    ) -> TokensPrompt:
        """The prompt in token ids.

        `truncate_to` keeps so many of the last tokens, or of the first with `keep_first`, -1 as
        many as leave room for one token of the answer. Of a long text only the part is encoded
        that these are in, cut between two words; the tokens are those of the whole text unless it
        has hardly any words.

        Raises `RequestTooLarge` for a text that cannot fit however it is encoded and, if it
        `must_fit`, early for one whose first part alone does not; `InvalidRequest` for one that is
        not valid Unicode or for another `truncate_to`; `Overloaded` where too much text waits.
        """
        most = self._max_model_len
        keep = None if truncate_to is None else _kept(truncate_to, most)
        if not isinstance(prompt, str):
            tokens = prompt
            if keep is not None:
                tokens = prompt[:keep] if keep_first else prompt[-keep:]
            return TokensPrompt(token_ids=tuple(tokens))
        text, tokenizer = prompt, self._tokenizer
        if keep is None:
            check_length(text, most)

        def work() -> Sequence[int]:
            if keep is not None:
                cut = first_tokens if keep_first else last_tokens
                return cut(tokenizer, text, keep, most, add_special_tokens=add_special_tokens)
            if must_fit:
                check_fits(tokenizer, text, most)
            return tokenizer.encode(text, add_special_tokens=add_special_tokens)

        if len(text) < LONG_TEXT:
            await self._take_turns(len(text))
            tokens = work()
        else:
            tokens = await self._in_thread(len(text), work)
        return TokensPrompt(token_ids=tuple(tokens), text=prompt)

    def close(self) -> None:
        """Let go of the threads; what waits is cancelled."""
        for threads in (self._long, self._very_long):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _take_turns(self, characters: int) -> None:
        """Let others run, where a request has many texts none of which is long."""
        self._unbroken += characters
        if self._unbroken > LONG_TEXT:
            self._unbroken = characters
            await asyncio.sleep(0)

    async def _in_thread(self, characters: int, work: Callable[[], Sequence[int]]) -> Sequence[int]:
        """Whoever is cancelled while waiting is not encoded; what has begun cannot be stopped."""
        if self._waiting and self._waiting + characters > MAX_WAITING_CHARACTERS:
            raise Overloaded(
                f"{self._waiting} characters wait to be encoded; try again later",
                retry_after=RETRY_AFTER,
            )
        threads = self._very_long if characters > VERY_LONG_TEXT else self._long
        self._count(characters)
        job = threads.submit(work)
        job.add_done_callback(lambda _: self._count(-characters))
        return await asyncio.wrap_future(job)

    def _count(self, characters: int) -> None:
        with self._lock:
            self._waiting += characters


def check_length(text: str, max_model_len: int) -> None:
    """Raise `RequestTooLarge` for a text that is too long however it is encoded."""
    if len(text) > MAX_TOKEN_CHARACTERS * max_model_len:
        raise RequestTooLarge(
            f"a text of {len(text)} characters cannot fit in the context of {max_model_len} tokens",
            field="prompt",
        )


def check_fits(tokenizer: Tokenizer, text: str, max_model_len: int) -> None:
    """Raise `RequestTooLarge` for a text whose first part alone is too long; looks at no other."""
    part = USUAL_TOKEN_CHARACTERS * max_model_len
    if len(text) <= part + _CUT_WINDOW:
        return
    count = len(tokenizer.encode(text[:part], add_special_tokens=False))
    if count > max_model_len + max_model_len // 8 + MARGIN:
        raise RequestTooLarge(
            f"the prompt has more than {count - MARGIN} tokens; at most {max_model_len - 1} fit in "
            f"the context of {max_model_len} with one token generated",
            field="prompt",
        )


def last_tokens(
    tokenizer: Tokenizer, text: str, keep: int, max_model_len: int, *, add_special_tokens: bool
) -> Sequence[int]:
    """The last `keep` tokens of a text, of which no more is encoded than they need."""
    part = USUAL_TOKEN_CHARACTERS * keep + _CUT_WINDOW
    while part < min(len(text), MAX_TOKEN_CHARACTERS * max_model_len):
        start = len(text) - part
        cut = _SAFE_CUT.search(text, start, start + _CUT_WINDOW)
        if cut is not None:
            tail = text[cut.start() :]
            tokens = tokenizer.encode(tail, add_special_tokens=add_special_tokens)
            if len(tokens) >= keep + MARGIN:
                return tokens[-keep:]
        part *= 4
    # What lies so far back that no token of it could be kept is left out.
    tail = text[-MAX_TOKEN_CHARACTERS * max_model_len :]
    return tokenizer.encode(tail, add_special_tokens=add_special_tokens)[-keep:]


def first_tokens(
    tokenizer: Tokenizer, text: str, keep: int, max_model_len: int, *, add_special_tokens: bool
) -> Sequence[int]:
    """The first `keep` tokens of a text, of which no more is encoded than they need."""
    part = USUAL_TOKEN_CHARACTERS * keep + _CUT_WINDOW
    while part < min(len(text), MAX_TOKEN_CHARACTERS * max_model_len):
        cut = _SAFE_CUT.search(text, part - _CUT_WINDOW, part)
        if cut is not None:
            tokens = tokenizer.encode(text[: cut.start()], add_special_tokens=add_special_tokens)
            if len(tokens) >= keep + MARGIN:
                return tokens[:keep]
        part *= 4
    head = text[: MAX_TOKEN_CHARACTERS * max_model_len]
    return tokenizer.encode(head, add_special_tokens=add_special_tokens)[:keep]


def _kept(truncate_to: int, max_model_len: int) -> int:
    if truncate_to < -1 or truncate_to == 0:
        raise InvalidRequest(
            f"truncate_prompt_tokens must be positive or -1, got {truncate_to}",
            field="truncate_prompt_tokens",
        )
    if truncate_to == -1:
        return max(max_model_len - 1, 1)
    return min(truncate_to, max_model_len)  # more are refused anyway
