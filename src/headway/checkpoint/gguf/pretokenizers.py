"""How byte-level vocabularies split text into words, by the name that GGUF files give the rule.

The expressions are part of each model: the merges were learnt within the words they find. They
are written as settings of the `tokenizers` package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headway.errors import ModelError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_CASED_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

_LLAMA3 = "|".join((_CONTRACTIONS, rf"{_LEAD}\p{{L}}+", r"\p{N}{1,3}", _PUNCTUATION, _SPACES))
_QWEN2 = "|".join((_CONTRACTIONS, rf"{_LEAD}\p{{L}}+", r"\p{N}", _PUNCTUATION, _SPACES))
_TEKKEN = "|".join(
    (
        f"{_LEAD}{_UPPER}*{_LOWER}+",
        f"{_LEAD}{_UPPER}+{_LOWER}*",
        r"\p{N}",
        _CASED_PUNCTUATION,
        _SPACES,
    )
)

_EXPRESSIONS = {
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "pixtral": _LLAMA3,
    "smaug-bpe": _LLAMA3,
    "dbrx": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "tekken": _TEKKEN,
}
_GPT2 = ("gpt-2", "default")
_SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r")


def pre_tokenizer(rule: str, path: Path) -> dict[str, Any]:
    """The `pre_tokenizer` of a tokenizer.json; raises `ModelError` for a rule not listed."""
    if rule in _GPT2:
        return _byte_level(split=True)
    if rule in _SINGLE_DIGITS:
        # Digits come apart before anything else: "a  1" has the word of two spaces.
        return _sequence({"type": "Digits", "individual_digits": True}, _byte_level(split=True))
    expression = _EXPRESSIONS.get(rule)
    if expression is None:
        known = ", ".join(sorted((*_GPT2, *_SINGLE_DIGITS, *_EXPRESSIONS)))
        raise ModelError(
            f"{path}: tokenizer.ggml.pre {rule!r} is not supported; known: {known}",
            field="tokenizer.ggml.pre",
        )
    split = {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    }
    return _sequence(split, _byte_level(split=False))


def normalizer(rule: str) -> dict[str, Any] | None:
    """The `normalizer` of a tokenizer.json: Qwen composes accents first, the others nothing."""
    return {"type": "NFC"} if rule in ("qwen2", "deepseek-r1-qwen") else None


def _byte_level(*, split: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": split,
    }


def _sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}
