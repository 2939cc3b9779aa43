"""Which tokens end an answer: what the files state, and the turn ends that they often forget.

A chat model's files commonly name one end of sequence while its template ends turns with another
token; a client would then see the model talk to itself. The names below are each used by one
public model family for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
)


def end_tokens(stated: Iterable[int], special: Mapping[str, int]) -> tuple[int, ...]:
    """The stated ids in their order, then the known turn ends among the special tokens."""
    known = [special[name] for name in _TURN_ENDS if name in special]
    return tuple(dict.fromkeys((*stated, *known)))
