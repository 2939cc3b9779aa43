"""Which tokens end an answer: what the files state, and the turn ends that they often forget.

A chat model's files commonly name one end of sequence while its template ends turns with another
token; a client would then see the model talk to itself. The names below are each used by one
public model family for nothing else.

What a tokenizer puts around a text, as the `post_processor` of a tokenizer.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headway.types.model import TextConfig

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


def framing(text: TextConfig) -> dict[str, Any]:
    """The post-processor that puts beginning and end of sequence where the settings say."""
    sequence: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    used: dict[str, int] = {}
    if text.add_bos and text.bos_token_id is not None:
        sequence.insert(0, {"SpecialToken": {"id": text.bos_token, "type_id": 0}})
        used[text.bos_token] = text.bos_token_id
    if text.add_eos and text.eos_token:
        sequence.append({"SpecialToken": {"id": text.eos_token, "type_id": 0}})
        used[text.eos_token] = text.eos_token_ids[0]
    return {
        "type": "TemplateProcessing",
        "single": sequence,
        "pair": [*sequence, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            name: {"id": name, "ids": [token], "tokens": [name]} for name, token in used.items()
        },
    }
