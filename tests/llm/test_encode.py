"""Prompts become token ids: as many of them as are to be kept, and none that cannot fit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from headway.errors import InvalidRequest, Overloaded, RequestTooLarge
from headway.llm import prompt as prompt_module
from headway.llm.prompt import (
    LONG_TEXT,
    MARGIN,
    MAX_TOKEN_CHARACTERS,
    USUAL_TOKEN_CHARACTERS,
    VERY_LONG_TEXT,
    PromptEncoder,
    TokensPrompt,
    encode_now,
)
from headway.text import TextConfig, Tokenizer
from tests.llm.support import write_prepared

WORDS = "the quick brown fox jumps over a lazy dog, and 1234 other things;\nthen it sleeps. "


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("model")
    write_prepared(folder)
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    """Byte-level BPE as published models have it, trained on a few words."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([WORDS * 20], trainer)
    return Tokenizer(backend, TextConfig(eos_token_ids=()))


class Counting(Tokenizer):
    """Notes how long each text is that it encodes, and waits where it is told to."""

    def __init__(self, inner: Tokenizer) -> None:
        self.__dict__ |= inner.__dict__
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.threads: set[int] = set()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        self.sizes.append(len(text))
        self.threads.add(threading.get_ident())
        self.begun.set()
        assert self.gate.wait(60)
        return super().encode(text, add_special_tokens=add_special_tokens)


@pytest.fixture
def counting(trained: Tokenizer) -> Iterator[Counting]:
    found = Counting(trained)
    yield found
    found.gate.set()


def encode(
    tokenizer: Tokenizer, prompt: Any, max_model_len: int = 8, **options: Any
) -> TokensPrompt:
    async def main() -> TokensPrompt:
        encoder = PromptEncoder(tokenizer, max_model_len=max_model_len)
        try:
            return await encoder.encode(prompt, **options)
        finally:
            encoder.close()

    return asyncio.run(main())


def test_a_text_keeps_its_text_and_token_ids_have_none(tokenizer: Tokenizer) -> None:
    prompt = encode(tokenizer, "ab")
    assert (list(prompt.token_ids), prompt.text) == (tokenizer.encode("ab"), "ab")
    assert encode(tokenizer, [1, 2]) == TokensPrompt(token_ids=(1, 2))


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(2, [8, 9]), (20, range(2, 10)), (-1, range(3, 10)), (2**31 - 1, range(2, 10))],
)
def test_the_last_tokens_are_kept(tokenizer: Tokenizer, keep: int, kept: Any) -> None:
    assert encode(tokenizer, range(10), truncate_to=keep).token_ids == tuple(kept)
    first = encode(tokenizer, range(10), truncate_to=keep, keep_first=True).token_ids
    assert first == tuple(range(len(first)))
    assert len(first) == len(kept)


@pytest.mark.parametrize("keep", [0, -2])
def test_no_such_number_of_tokens(tokenizer: Tokenizer, keep: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(tokenizer, "a", truncate_to=keep)
    assert caught.value.field == "truncate_prompt_tokens"


def test_a_text_that_cannot_fit_is_not_encoded(counting: Counting) -> None:
    text = "x" * (8 * MAX_TOKEN_CHARACTERS + 1)
    with pytest.raises(RequestTooLarge, match="cannot fit"):
        encode(counting, text)
    with pytest.raises(RequestTooLarge, match="cannot fit"):
        encode_now(counting, text, max_model_len=8)
    assert counting.sizes == []


def test_no_more_of_a_text_is_encoded_than_shows_that_it_does_not_fit(counting: Counting) -> None:
    text = (WORDS * 2000)[: 2000 * MAX_TOKEN_CHARACTERS // 2]
    with pytest.raises(RequestTooLarge, match=r"more than \d+ tokens; at most 1999"):
        encode(counting, text, 2000)
    with pytest.raises(RequestTooLarge, match=r"more than \d+ tokens; at most 1999"):
        encode_now(counting, text, max_model_len=2000)
    assert counting.sizes == [2000 * USUAL_TOKEN_CHARACTERS] * 2
    # Whoever only counts the tokens of a text need not make it fit.
    assert len(encode(counting, text, 2000, must_fit=False).token_ids) > 2000


@pytest.fixture
def long_tokens() -> Tokenizer:
    """Tokens of up to 64 times the letter x, and a space."""
    sizes = [2**n for n in range(7)]
    vocabulary = {"x" * size: token for token, size in enumerate(sizes)} | {" ": 7}
    merges = [("x" * size, "x" * size) for size in sizes[:-1]]
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    return Tokenizer(backend, TextConfig(eos_token_ids=()))


def test_a_text_of_long_tokens_fits_although_it_is_long(long_tokens: Tokenizer) -> None:
    text = "x" * 64 * 1000
    assert len(encode(long_tokens, text, 1100).token_ids) == 1000


def test_as_much_is_encoded_as_the_tokens_that_are_kept_need(long_tokens: Tokenizer) -> None:
    text = ("x" * 64 + " ") * 4000
    kept = encode(long_tokens, text, 5000, truncate_to=400).token_ids
    assert list(kept) == long_tokens.encode(text)[-400:]


UNITS = [WORDS, "word " * 50, "ünï cödé — 中文 text\n", "a  b\n\n c\td e f "]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("keep", [1, 7, 500, 1999])
@pytest.mark.parametrize(
    "unit", [WORDS, "word " * 50, "ünï cödé — 中文 text\n", "a  b\n\n c\td e f "]
)
def test_a_truncated_text_keeps_the_tokens_of_the_whole(
    counting: Counting, keep: int, unit: str, first: bool
) -> None:
    text = (unit * 30_000)[-600_000:]
    whole = Tokenizer.encode(counting, text)
    counting.sizes.clear()
    kept = encode(counting, text, 2000, truncate_to=keep, keep_first=first).token_ids
    assert list(kept) == (whole[:keep] if first else whole[-keep:])
    assert sum(counting.sizes) <= 2 * (16 * keep * USUAL_TOKEN_CHARACTERS + 4 * LONG_TEXT)


def test_of_a_text_without_words_no_more_is_encoded_than_could_fit(counting: Counting) -> None:
    text = "x" * (3 * MAX_TOKEN_CHARACTERS * 2000)
    kept = encode(counting, text, 2000, truncate_to=100).token_ids
    assert len(kept) == 100
    assert max(counting.sizes) == MAX_TOKEN_CHARACTERS * 2000
    assert MARGIN < 100


def test_long_texts_are_encoded_elsewhere_and_one_at_a_time(counting: Counting) -> None:
    async def main() -> None:
        encoder = PromptEncoder(counting, max_model_len=200_000)
        here = threading.get_ident()
        await encoder.encode("a" * (LONG_TEXT - 1))
        assert counting.threads == {here}
        counting.threads.clear()
        counting.gate.clear()
        counting.begun.clear()
        tasks = [asyncio.create_task(encoder.encode(WORDS * 200)) for _ in range(8)]
        assert len(WORDS * 200) >= LONG_TEXT
        await asyncio.to_thread(counting.begun.wait)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(counting.sizes) == 2, "one is being encoded, and no other"
        # Short texts do not wait, and a very long one not behind long ones.
        very_long = asyncio.create_task(encoder.encode(WORDS * (VERY_LONG_TEXT // len(WORDS) + 1)))
        while len(counting.sizes) < 3:
            await asyncio.sleep(0.001)
        # Who is cancelled while waiting is never encoded.
        for task in tasks[1:5]:
            task.cancel()
        await asyncio.wait(tasks[1:5])
        counting.gate.set()
        await asyncio.gather(tasks[0], *tasks[5:], very_long)
        assert len(counting.sizes) == 2 + 1 + 3
        assert here not in counting.threads
        encoder.close()

    asyncio.run(main())


def test_the_characters_that_wait_are_bounded(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_module, "MAX_WAITING_CHARACTERS", 30_000)

    async def main() -> None:
        encoder = PromptEncoder(counting, max_model_len=200_000)
        text = WORDS * 130
        assert 10_000 < len(text) < 15_000
        counting.gate.clear()
        tasks = [asyncio.create_task(encoder.encode(text)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="wait to be encoded"):
            await encoder.encode(text)
        tasks[1].cancel()
        await asyncio.wait(tasks[1:])
        third = asyncio.create_task(encoder.encode(text))
        await asyncio.sleep(0)
        assert not third.done()
        counting.gate.set()
        await asyncio.gather(tasks[0], third)
        # A single text of any size is encoded where nothing else waits.
        await encoder.encode(WORDS * 500)
        encoder.close()

    asyncio.run(main())


def test_many_short_texts_let_others_run(counting: Counting) -> None:
    async def main() -> int:
        encoder = PromptEncoder(counting, max_model_len=200_000)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(50):
            await encoder.encode("a" * (LONG_TEXT // 2))
        task.cancel()
        encoder.close()
        return turns

    assert asyncio.run(main()) >= 20


def test_others_run_while_a_long_text_is_encoded(trained: Tokenizer) -> None:
    """The package's `encode` would keep Python's global lock for all that time."""
    text = WORDS * 20_000
    turns = 0
    ended = threading.Event()

    def work() -> None:
        trained.encode(text)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not ended.wait(0.001):
        turns += 1
    thread.join()
    assert turns > 20, "some hundred milliseconds of encoding, in which this thread had its turns"
