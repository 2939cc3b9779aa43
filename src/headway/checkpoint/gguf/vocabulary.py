"""A GGUF file's vocabulary as a `tokenizer.json` and a `TextConfig`.

Two kinds exist: `gpt2`, byte-level BPE whose text is first split by a named rule, and `llama`,
sentencepiece BPE with scores and byte fallback. How a rule splits text is part of each model, whose
merges were learnt within the words that it finds; the expressions below are settings of the
`tokenizers` package. Where a file says too little to know them, it is refused rather than guessed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headway.checkpoint.gguf.file import GgufKeys
from headway.checkpoint.source import end_tokens, post_processor
from headway.errors import ModelError
from headway.types.model import TextConfig

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
        return _byte_level_pre_tokenizer(split=True)
    if rule in _SINGLE_DIGITS:
        # Digits come apart before anything else: "a  1" has the word of two spaces.
        return _sequence(
            {"type": "Digits", "individual_digits": True}, _byte_level_pre_tokenizer(split=True)
        )
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
    return _sequence(split, _byte_level_pre_tokenizer(split=False))


def normalizer(rule: str) -> dict[str, Any] | None:
    """The `normalizer` of a tokenizer.json: Qwen composes accents first, the others nothing."""
    return {"type": "NFC"} if rule in ("qwen2", "deepseek-r1-qwen") else None


def _byte_level_pre_tokenizer(*, split: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": split,
    }


def _sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6
_SPACE = "\u2581"
_KEY = "tokenizer.ggml."


def read_vocabulary(keys: GgufKeys, vocab_size: int) -> tuple[bytes, TextConfig]:
    """The `tokenizer.json` and the text settings; raises `ModelError` for an unknown kind."""
    tokens = keys.texts(_KEY + "tokens")
    kinds = [int(kind) for kind in keys.numbers(_KEY + "token_type", [1.0] * len(tokens))]
    if len(kinds) != len(tokens) or not 0 < len(tokens) <= vocab_size:
        raise ModelError(
            f"{keys.path}: {len(tokens):,} tokens and {len(kinds):,} token types for "
            f"{vocab_size:,} embeddings"
        )
    kind = keys.text(_KEY + "model")
    if kind == "gpt2":
        document = _byte_level(keys, tokens)
    elif kind == "llama":
        if keys.text("general.architecture").startswith("gemma"):
            tokens = [_SPACE * len(text) if text.strip(" ") == "" else text for text in tokens]
        document = _sentencepiece(keys, tokens, kinds)
    else:
        raise ModelError(f"{keys.path}: tokenizer model {kind!r} is not supported")
    text = _text_config(keys, tokens, kinds, kind)
    document["added_tokens"] = [
        _added(token, content, special=kind != _USER_DEFINED)
        for token, (content, kind) in enumerate(zip(tokens, kinds, strict=True))
        # Runs of spaces are reached by merges, once the text's spaces are spelt as the token's.
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) and content.strip(_SPACE)
    ]
    document["post_processor"] = post_processor(text)
    whole = {"version": "1.0", "truncation": None, "padding": None, **document}
    return json.dumps(whole, ensure_ascii=False).encode(), text


def _byte_level(keys: GgufKeys, tokens: list[str]) -> dict[str, Any]:
    rule = keys.text(_KEY + "pre", "default")
    merges = []
    for merge in keys.texts(_KEY + "merges"):
        left, _, right = merge.partition(" ")
        merges.append([left, right])
    model = _bpe(keys, tokens, merges)
    # Llama 3 and Tekken take a word that is a token as it is, whatever the merges say.
    model["ignore_merges"] = rule in ("llama-bpe", "llama3", "llama-v3", "tekken")
    return {
        "normalizer": normalizer(rule),
        "pre_tokenizer": pre_tokenizer(rule, keys.path),
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": model,
    }


def _sentencepiece(keys: GgufKeys, tokens: list[str], kinds: list[int]) -> dict[str, Any]:
    scores = keys.numbers(_KEY + "scores")
    if len(scores) != len(tokens):
        raise ModelError(f"{keys.path}: {len(scores):,} token scores for {len(tokens):,} tokens")
    if keys.text("general.architecture").startswith("gemma"):
        # Gemma's merges go by the order of its vocabulary; its scores leave it in places.
        scores = [-float(token) for token in range(len(tokens))]
    model = _bpe(keys, tokens, _merges(tokens, scores, kinds))
    unknown = keys.integer(_KEY + "unknown_token_id", -1)
    model["unk_token"] = tokens[unknown] if 0 <= unknown < len(tokens) else None
    model["fuse_unk"] = True
    model["byte_fallback"] = kinds.count(_BYTE) == 256
    spaced: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if keys.flag(_KEY + "add_space_prefix", True):
        # Prepended to every stretch between special tokens, as the models were trained.
        spaced = {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": _SPACE}, spaced],
        }
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "normalizer": spaced,
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }


def _merges(tokens: list[str], scores: list[float], kinds: list[int]) -> list[list[str]]:
    """All ways to join two tokens into a third, the third's best score first."""
    inert = (_UNKNOWN, _CONTROL, _BYTE)
    vocabulary = {text for text, kind in zip(tokens, kinds, strict=True) if kind not in inert}
    ranked = [
        (-score, -cut, cut - len(text), text)
        for text, score in zip(tokens, scores, strict=True)
        if text in vocabulary
        for cut in range(1, len(text))
        if text[:cut] in vocabulary and text[cut:] in vocabulary
    ]
    ranked.sort(key=lambda entry: entry[:3])
    return [[text[:-cut], text[-cut:]] for _, cut, _, text in ranked]


def _bpe(keys: GgufKeys, tokens: list[str], merges: list[list[str]]) -> dict[str, Any]:
    vocabulary = {text: token for token, text in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ModelError(f"{keys.path}: a token appears twice in the vocabulary")
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": merges,
    }


def _text_config(keys: GgufKeys, tokens: list[str], kinds: list[int], kind: str) -> TextConfig:
    special = {
        text: token
        for token, text in enumerate(tokens)
        if kinds[token] in (_CONTROL, _USER_DEFINED)
    }
    ids: dict[str, int | None] = {}
    for name in ("bos", "eos", "unknown", "padding", "eot", "eom"):
        found = keys.integer(f"{_KEY}{name}_token_id", -1)
        if found >= len(tokens):
            raise ModelError(f"{keys.path}: {name}_token_id {found} is not in the vocabulary")
        ids[name] = found if found >= 0 else None

    def spelt(name: str) -> str:
        token = ids[name]
        return "" if token is None else tokens[token]

    adds_bos = kind == "llama" or keys.text(_KEY + "pre", "") in ("llama-bpe", "tekken")
    stated = [ids[name] for name in ("eos", "eot", "eom")]
    return TextConfig(
        eos_token_ids=end_tokens([token for token in stated if token is not None], special),
        bos_token_id=ids["bos"],
        pad_token_id=ids["padding"],
        unk_token_id=ids["unknown"],
        bos_token=spelt("bos"),
        eos_token=spelt("eos"),
        pad_token=spelt("padding"),
        unk_token=spelt("unknown"),
        add_bos=ids["bos"] is not None and keys.flag(_KEY + "add_bos_token", adds_bos),
        add_eos=ids["eos"] is not None and keys.flag(_KEY + "add_eos_token", False),
        add_space_prefix=kind == "llama" and keys.flag(_KEY + "add_space_prefix", True),
        chat_template=keys.text("tokenizer.chat_template", "") or None,
    )


def _added(token: int, content: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": token,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }
