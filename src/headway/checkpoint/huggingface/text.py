"""The text side of a Hugging Face directory: its tokenizer, special tokens and chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from headway.checkpoint.safetensors import read_json
from headway.checkpoint.source import end_tokens, post_processor, stated_sampling
from headway.errors import ModelError
from headway.types.model import TextConfig


def read_text(folder: Path, config: Mapping[str, Any]) -> tuple[bytes, TextConfig]:
    """The `tokenizer.json` and the text settings of a directory.

    `config` is its config.json, which may name end tokens. Raises `ModelError` where there is no
    usable tokenizer.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ModelError(f"{folder}: has no tokenizer.json (sentencepiece models are not read)")
    raw = path.read_bytes()
    try:
        backend = tokenizers.Tokenizer.from_buffer(raw)
    except Exception as error:  # the package raises plain Exception for whatever it dislikes
        raise ModelError(f"{path}: unusable tokenizer: {error}") from error
    settings = {
        **_optional(folder / "special_tokens_map.json"),
        **_optional(folder / "tokenizer_config.json"),
    }
    generation = _optional(folder / "generation_config.json")
    text = _text_config(folder, backend, settings, generation, config)
    stated = ("add_bos_token", "add_eos_token")
    if any(isinstance(settings.get(name), bool) for name in stated):
        # What the settings say counts, as in transformers, where the file's framing differs.
        document = json.loads(raw)
        if _frames(backend) != (text.add_bos, text.add_eos):
            document["post_processor"] = post_processor(text)
            raw = json.dumps(document, ensure_ascii=False).encode()
    return raw, text


def _text_config(
    folder: Path,
    backend: tokenizers.Tokenizer,
    settings: Mapping[str, Any],
    generation: Mapping[str, Any],
    model: Mapping[str, Any],
) -> TextConfig:
    spelt = {
        name: _spelling(settings.get(f"{name}_token")) for name in ("bos", "eos", "pad", "unk")
    }
    ids = {name: backend.token_to_id(text) if text else None for name, text in spelt.items()}
    stated = [ids["eos"]] if ids["eos"] is not None else []
    for config in (generation, model):
        ends = config.get("eos_token_id")
        stated += [end for end in (ends if isinstance(ends, list) else [ends]) if type(end) is int]
    added = {entry.content: token for token, entry in backend.get_added_tokens_decoder().items()}
    starts, closes = _frames(backend)
    bos, eos = settings.get("add_bos_token"), settings.get("add_eos_token")
    return TextConfig(
        eos_token_ids=end_tokens(stated, added),
        bos_token_id=ids["bos"],
        pad_token_id=ids["pad"],
        unk_token_id=ids["unk"],
        bos_token=spelt["bos"],
        eos_token=spelt["eos"],
        pad_token=spelt["pad"],
        unk_token=spelt["unk"],
        add_bos=ids["bos"] is not None and (bos if isinstance(bos, bool) else starts),
        add_eos=ids["eos"] is not None and (eos if isinstance(eos, bool) else closes),
        add_space_prefix=_strips_space(backend),
        chat_template=_template(folder, settings.get("chat_template")),
        sampling=stated_sampling(folder, generation),
    )


def _frames(backend: tokenizers.Tokenizer) -> tuple[bool, bool]:
    """Whether the tokenizer puts something before and after a text."""
    plain, framed = (backend.encode("a", add_special_tokens=wanted).ids for wanted in (False, True))
    extra = len(framed) - len(plain)
    before = next((n for n in range(extra + 1) if framed[n : n + len(plain)] == plain), 0)
    return before > 0, extra - before > 0


def _strips_space(backend: tokenizers.Tokenizer) -> bool:
    """Whether encoding puts a space before a text, which decoding takes away again."""
    ids = backend.encode("a", add_special_tokens=False).ids
    first = backend.id_to_token(ids[0]) if ids else None
    return first is not None and first.startswith("\u2581")


def _spelling(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _template(folder: Path, stated: object) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read: {error}") from error
    if isinstance(stated, list):  # several named templates: one is the default
        named = {entry.get("name"): entry for entry in stated if isinstance(entry, dict)}
        stated = named.get("default", {}).get("template")
    return stated if isinstance(stated, str) else None


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path, path.read_bytes()) if path.exists() else {}
