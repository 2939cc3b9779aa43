"""What a tokenizer puts around a text, as the `post_processor` of a tokenizer.json."""

from __future__ import annotations

from typing import Any

from headway.types.text import TextConfig


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
