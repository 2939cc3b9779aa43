"""A Hugging Face directory as a `Checkpoint`: its shards, its tensors' names, Gemma's norms.

Only safetensors are read; a pickle could run code. Gemma's norms are stored without the 1 that the
model adds to them, and come out with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from headway.checkpoint.huggingface.config import read_config
from headway.checkpoint.huggingface.text import read_text
from headway.checkpoint.layout import Piece
from headway.checkpoint.packing import FourBitBlocks
from headway.checkpoint.safetensors import SafetensorsFile, open_safetensors, read_json
from headway.checkpoint.source import Location, chunks
from headway.errors import ModelError
from headway.types.model import ModelConfig, TextConfig

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_OUTSIDE = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
_INSIDE = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
    "output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "router": "mlp.gate",
}
_GEMMA = {
    **_INSIDE,
    "post_attention_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "post_mlp_norm": "post_feedforward_layernorm",
}
_PREFIXES = ("language_model.", "model.language_model.")
_OTHER_HALVES = tuple(
    prefix + part
    for prefix in ("", "model.")
    for part in ("vision_tower.", "multi_modal_projector.")
)
_DERIVED = ".rotary_emb.inv_freq"


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFaceCheckpoint:
    """See `Checkpoint`. `stored` maps plain names to a file and the name within it."""

    path: Path
    config: ModelConfig
    text: TextConfig
    tokenizer_json: bytes
    stored: Mapping[str, tuple[SafetensorsFile, str]]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: file.tensors[inside].shape for name, (file, inside) in self.stored.items()}

    def locate(self, piece: Piece) -> Location:
        kind = "bias" if piece.bias else "weight"
        if piece.layer is None:
            return Location(tensor=f"{_OUTSIDE[piece.role]}.{kind}", shape=piece.shape)
        names = _GEMMA if self.config.architecture == "gemma3" else _INSIDE
        name = names[piece.role]
        if piece.expert is not None:
            name = name.replace("mlp.", f"mlp.experts.{piece.expert}.")
        return Location(tensor=f"model.layers.{piece.layer}.{name}.{kind}", shape=piece.shape)

    def read(self, piece: Piece) -> Iterator[npt.NDArray[np.float32]]:
        file, name = self.stored[self.locate(piece).tensor]
        plus_one = self.config.architecture == "gemma3" and piece.role.endswith("norm")
        for start, stop in chunks(piece.shape):
            rows = file.rows(name, start, stop)
            yield rows + np.float32(1.0) if plus_one else rows

    def quantised(self, piece: Piece) -> bool:  # noqa: ARG002
        return False

    def read_blocks(self, piece: Piece) -> Iterator[FourBitBlocks] | None:  # noqa: ARG002
        return None


def open_directory(folder: Path) -> HuggingFaceCheckpoint:
    """Open a model directory; raises `ModelError` naming the file and the reason."""
    path = folder / "config.json"
    values = read_json(path, read_bytes(path))
    config = read_config(path, values, folder.name)
    tokenizer_json, text = read_text(folder, values)
    stored = _stored(folder)
    if config.tie_embeddings:
        stored.pop("lm_head.weight", None)  # a copy of the embedding, or not there
    return HuggingFaceCheckpoint(
        path=folder, config=config, text=text, tokenizer_json=tokenizer_json, stored=stored
    )


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error


def weight_files(folder: Path) -> list[Path]:
    """The directory's safetensors files, as its index lists them; each lies in the directory."""
    index = folder / INDEX
    if not index.exists():
        if (folder / SINGLE).exists():
            return [folder / SINGLE]
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        note = "; pickled weights (.bin, .pt) are not read" if pickled else ""
        raise ModelError(f"{folder}: has neither {SINGLE} nor {INDEX}{note}")
    listing = read_json(index, read_bytes(index)).get("weight_map")
    if not isinstance(listing, dict) or not listing:
        raise ModelError(f"{index}: has no weight_map")
    names = {name for name in listing.values() if isinstance(name, str)}
    for name in names:
        if PurePath(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: {name!r} is not the name of a safetensors file beside it")
    return [folder / name for name in sorted(names)]


def _stored(folder: Path) -> dict[str, tuple[SafetensorsFile, str]]:
    found: dict[str, tuple[SafetensorsFile, str]] = {}
    for path in weight_files(folder):
        file = open_safetensors(path)
        for name in file.tensors:
            if name.startswith(_OTHER_HALVES) or name.endswith(_DERIVED):
                continue
            plain = _plain(name)
            if plain in found:
                raise ModelError(f"{path}: tensor {name} is in {found[plain][0].path.name} too")
            found[plain] = (file, name)
    return found


def _plain(name: str) -> str:
    """A tensor's name in a text-only model: multimodal files put it under `language_model`."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            return rest if rest.startswith(("model.", "lm_head.")) else f"model.{rest}"
    return name
