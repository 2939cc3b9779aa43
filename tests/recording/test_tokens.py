"""Made-up tokens are equal exactly where the recorded blocks were."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from headway.recording.format import recorded_tokens
from headway.types.block_hash import block_hashes
from tests.recording.samples import REQUEST

SIZE = 16
texts = st.lists(st.integers(0, 1), max_size=5 * SIZE)


def _retold(tokens: list[int], seq: int) -> tuple[int, ...]:
    """Tokens as they are made up for a request that had these."""
    hashes = tuple(digest.hex()[:16] for digest in block_hashes(tokens, SIZE, b"salt"))
    line = replace(
        REQUEST,
        seq=seq,
        prompt_tokens=len(tokens) // 2,
        output_tokens=len(tokens) - len(tokens) // 2,
        hashes=hashes,
    )
    return recorded_tokens(line, SIZE)


@given(texts, texts, st.integers(0, 4))
def test_the_same_blocks_are_equal_and_others_differ(
    first: list[int], second: list[int], shared: int
) -> None:
    second = first[: shared * SIZE] + second
    ours, theirs = _retold(first, 1), _retold(second, 2)
    assert (len(ours), len(theirs)) == (len(first), len(second))
    names = [block_hashes(tokens, SIZE, b"salt") for tokens in (first, second)]
    made_up = [block_hashes(tokens, SIZE, b"salt") for tokens in (ours, theirs)]
    assert [a == b for a, b in zip(*names, strict=False)] == [
        a == b for a, b in zip(*made_up, strict=False)
    ]
    assert all(0 <= token < 2**63 for token in ours)


def test_without_digests_no_token_is_anybody_elses() -> None:
    line = replace(REQUEST, prompt_tokens=40, output_tokens=40, hashes=())
    ours = recorded_tokens(line, SIZE)
    theirs = recorded_tokens(replace(line, seq=2), SIZE)
    assert len(set(ours) | set(theirs)) == 160
