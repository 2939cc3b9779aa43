"""Who has which blocks of a draft model's cache, and what of its contents is still right."""

from __future__ import annotations

from typing import Any

import pytest

from headway.engine.draft_cache import IDLE_ROUNDS, DraftCache, DraftSequence
from headway.types import Request
from tests.scheduling.harness import request_of


@pytest.mark.parametrize(
    ("stored", "checked", "tokens", "kept"),
    [
        ([], 0, [1, 2], []),
        ([1, 2], 0, [1, 2, 3], [1, 2]),
        ([1, 2, 8, 9], 2, [1, 2, 8, 7, 5], [1, 2, 8]),
        ([1, 2, 3], 0, [1, 2, 3], [1, 2]),  # somebody must compute what follows the last one
        ([1, 2, 3, 4, 5], 2, [1, 2, 3], [1, 2]),
    ],
)
def test_what_is_stored_of_the_tokens_is_kept(
    stored: list[int], checked: int, tokens: list[int], kept: list[int]
) -> None:
    seq = DraftSequence(1, request_of(), tokens=list(stored), checked=checked)
    assert seq.keep_common(tokens) == (kept != stored)
    assert seq.tokens == kept
    assert seq.checked == len(kept)


def test_tokens_that_were_checked_are_not_looked_at_again() -> None:
    """Else every round would read all of a long text."""

    class Noted(list[int]):
        def __getitem__(self, place: Any) -> Any:
            looked_at.append(place)
            return super().__getitem__(place)

    looked_at: list[object] = []
    seq = DraftSequence(1, request_of(), tokens=list(range(900)))
    seq.keep_common(list(range(901)))
    seq.tokens += [900, 901]
    seq.keep_common(Noted(range(903)))
    assert looked_at == [900, 901]


def test_blocks_are_given_for_all_positions_or_not_at_all() -> None:
    cache = DraftCache(num_blocks=3, block_size=4)
    first, second = cache.find(request_of("a")), cache.find(request_of("b"))
    assert cache.reserve(first, 5)
    assert cache.reserve(first, 8)
    assert len(first.blocks) == 2
    assert not cache.reserve(second, 5)
    assert second.blocks == []
    assert cache.reserve(second, 4)
    assert cache.free == 0
    cache.check()


def test_room_comes_from_those_that_were_asked_about_longest_ago() -> None:
    cache = DraftCache(num_blocks=4, block_size=4)
    old, older, asked = (request_of(name) for name in ("old", "older", "asked"))
    for request in (older, old):
        seq = cache.find(request)
        assert cache.reserve(seq, 8)
        seq.entered = True
        cache.begin_round()
    for _ in range(IDLE_ROUNDS - 3):
        cache.begin_round()
    wants = cache.find(asked)
    assert not cache.reserve(wants, 4), "of them, nobody was idle for so long"
    cache.begin_round()
    assert not cache.reserve(wants, 12), "nobody loses anything for what does not fit yet"
    assert cache.reserve(wants, 4)
    assert cache.take_ended() == [1]
    assert cache.take_ended() == []
    assert cache.find(old).blocks
    assert not cache.find(older).blocks
    cache.check()


def test_one_that_is_asked_about_is_not_idle() -> None:
    cache = DraftCache(num_blocks=1, block_size=4)
    busy = request_of("busy")
    assert cache.reserve(cache.find(busy), 4)
    for _ in range(2 * IDLE_ROUNDS):
        cache.begin_round()
        cache.find(busy)
    assert not cache.reserve(cache.find(request_of("b")), 4)


def test_a_request_that_leaves_gives_its_blocks_back() -> None:
    cache = DraftCache(num_blocks=2, block_size=4)
    seq = cache.find(request_of("a"))
    assert cache.reserve(seq, 8)
    cache.forget("a")
    cache.forget("a")
    assert (cache.free, len(cache)) == (2, 0)
    assert cache.take_ended() == [], "the runner has never heard of it"
    cache.check()


def test_another_request_of_the_same_name_starts_over() -> None:
    cache = DraftCache(num_blocks=2, block_size=4)
    request = request_of("a")
    seq = cache.find(request)
    assert cache.find(request) is seq
    assert cache.reserve(seq, 4)
    again = cache.find(request_of("a"))
    assert again.number != seq.number
    assert (again.blocks, cache.free) == ([], 2)


def test_a_lost_block_is_noticed() -> None:
    cache = DraftCache(num_blocks=2, block_size=4)
    seq = cache.find(request_of("a"))
    assert cache.reserve(seq, 8)
    seq.blocks.pop()
    with pytest.raises(AssertionError, match="1 blocks are held, 0 free"):
        cache.check()


def stored(cache: DraftCache, request: Request, tokens: list[int]) -> DraftSequence:
    """A sequence of which all these tokens were computed."""
    seq = cache.find(request)
    cache.attach(seq, tokens)
    assert cache.reserve(seq, len(tokens))
    seq.tokens += tokens[len(seq.tokens) :]
    cache.advance(seq, tokens)
    cache.check()
    return seq


TOKENS = list(range(10))


def test_full_blocks_of_a_prefix_are_found_again_even_if_their_request_has_left() -> None:
    cache = DraftCache(num_blocks=9, block_size=4)
    first = stored(cache, request_of("a"), TOKENS)
    blocks = list(first.blocks)
    second = cache.find(request_of("b"))
    cache.attach(second, [*TOKENS[:9], 77, 78])
    assert (second.blocks, second.tokens) == (blocks[:2], TOKENS[:8])
    assert second.checked == 8
    cache.forget("a")
    cache.forget("b")
    third = cache.find(request_of("c"))
    cache.attach(third, TOKENS[:8])
    assert third.blocks == blocks[:1], "somebody must compute what follows the last token"
    cache.check()


def test_drafts_are_in_no_block_that_others_find() -> None:
    cache = DraftCache(num_blocks=9, block_size=4)
    first = cache.find(request_of("a"))
    assert cache.reserve(first, 12)
    first.tokens += [*TOKENS[:6], 90, 91, 92, 93]
    cache.advance(first, TOKENS[:6])
    assert first.checked == 6
    second = cache.find(request_of("b"))
    cache.attach(second, [*TOKENS[:6], 90, 91, 92])
    assert second.tokens == TOKENS[:4]


@pytest.mark.parametrize(
    ("caching", "changes", "found"),
    [
        (True, {}, 8),
        (True, {"cache_salt": "x"}, 0),
        (False, {}, 0),
        (False, {"group": "g"}, 8),
    ],
)
def test_prefixes_are_shared_with_those_with_whom_the_model_itself_shares_them(
    caching: bool, changes: dict[str, str], found: int
) -> None:
    cache = DraftCache(num_blocks=9, block_size=4, prefix_caching=caching)
    stored(cache, request_of("a", group="g"), TOKENS)
    second = cache.find(request_of("b", **changes))  # type: ignore[arg-type]
    cache.attach(second, TOKENS)
    assert len(second.tokens) == found


def test_one_that_waits_for_its_turn_takes_what_others_have_stored_meanwhile() -> None:
    cache = DraftCache(num_blocks=9, block_size=4)
    waits = cache.find(request_of("waits"))
    cache.attach(waits, TOKENS)
    assert cache.reserve(waits, len(TOKENS))
    first = stored(cache, request_of("a"), TOKENS)
    cache.attach(waits, TOKENS)
    assert waits.blocks[:2] == first.blocks[:2]
    assert waits.blocks[2] != first.blocks[2]
    assert cache.free == 9 - 4
    cache.check()


def test_what_failed_is_found_by_nobody() -> None:
    cache = DraftCache(num_blocks=9, block_size=4)
    bad = stored(cache, request_of("a"), TOKENS)
    cache.fail(bad)
    assert bad.failed
    second = cache.find(request_of("b"))
    cache.attach(second, TOKENS)
    assert (second.tokens, cache.free) == ([], 9)
    cache.check()


def test_shared_blocks_are_no_room() -> None:
    """The idle one has two blocks, of which one is another's too."""
    cache = DraftCache(num_blocks=3, block_size=4)
    stored(cache, request_of("idle"), TOKENS[:8])
    for _ in range(IDLE_ROUNDS):
        cache.begin_round()
    stored(cache, request_of("busy"), TOKENS[:5])
    wants = cache.find(request_of("wants"))
    assert not cache.reserve(wants, 8)
    assert cache.reserve(wants, 4)
    cache.check()
