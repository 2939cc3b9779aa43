"""What every checkpoint format offers to the conversion, and what the formats share.

A format opens its files as a `Checkpoint`. Shared are the checks of a config and of a file's
tensors, and three things about text: which tokens end an answer, what a tokenizer puts around a
text, and how answers are sampled by default.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from headway.checkpoint.layout import Piece
from headway.checkpoint.packing import FourBitBlocks
from headway.errors import InvalidRequest, ModelError
from headway.types.model import ModelConfig, TextConfig
from headway.types.sampling_defaults import SamplingDefaults, file_defaults

logger = logging.getLogger(__name__)

_MOST_LAYERS = 1024
_MOST_EXPERTS = 4096
_MOST_TOKENS = 2**22
_LARGEST = 2**24
_CHUNK_ELEMENTS = 2**21
_TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
)
"""Each is used by one public model family for nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a piece lies: a tensor of the source, the shape it must have, and the first row."""

    tensor: str
    shape: tuple[int, ...]
    first_row: int = 0


class Checkpoint(Protocol):
    """An opened checkpoint of any format."""

    @property
    def path(self) -> Path: ...
    @property
    def config(self) -> ModelConfig: ...
    @property
    def text(self) -> TextConfig: ...
    @property
    def tokenizer_json(self) -> bytes:
        """The tokenizer as a `tokenizer.json` of the `tokenizers` package."""
        ...

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the source that must be used."""
        ...

    def locate(self, piece: Piece) -> Location: ...

    def read(self, piece: Piece) -> Iterator[npt.NDArray[np.float32]]:
        """The piece in canonical form, in consecutive chunks of rows."""
        ...

    def quantised(self, piece: Piece) -> bool:
        """Whether the source has already rounded the piece to fewer than 16 bits."""
        ...

    def read_blocks(self, piece: Piece) -> Iterator[FourBitBlocks] | None:
        """The same rows as `read` as the four-bit blocks they are; None where they are not."""
        ...


def check_config(config: ModelConfig, path: Path) -> ModelConfig:
    """The config itself if a model could have it; raises `ModelError` that names the field."""
    layers = config.num_layers
    limits = {
        "num_layers": (layers, _MOST_LAYERS),
        "vocab_size": (config.vocab_size, _MOST_TOKENS),
        "hidden_size": (config.hidden_size, _LARGEST),
        "num_heads": (config.num_heads, _LARGEST),
        "num_kv_heads": (config.num_kv_heads, _LARGEST),
        "head_dim": (config.head_dim, _LARGEST),
        "intermediate_size": (config.intermediate_size, _LARGEST),
        "max_position": (config.max_position, 2**40),
    }
    if config.num_experts:
        limits["num_experts"] = (config.num_experts, _MOST_EXPERTS)
        limits["num_experts_per_token"] = (config.num_experts_per_token, config.num_experts)
        limits["moe_intermediate_size"] = (config.moe_intermediate_size, _LARGEST)
    for name, (value, limit) in limits.items():
        if not 1 <= value <= limit:
            raise ModelError(f"{path}: {name} is {value:,}, outside [1, {limit:,}]", field=name)
    _positive(path, norm_eps=config.norm_eps, rope_theta=config.rope_theta)
    if config.num_heads % config.num_kv_heads or config.head_dim % 2:
        raise ModelError(
            f"{path}: {config.num_heads} heads of {config.head_dim} elements do not divide "
            f"among {config.num_kv_heads} key-value heads, or have an odd size"
        )
    if any(len(flags) not in (0, layers) for flags in (config.sliding_layers, config.moe_layers)):
        raise ModelError(f"{path}: a list of layer kinds does not have {layers} entries")
    if any(config.sliding_layers) and (config.sliding_window or 0) < 1:
        raise ModelError(f"{path}: sliding_window is missing", field="sliding_window")
    _positive(path, embedding_scale=config.embedding_scale, query_scale=config.attention_scale)
    if config.rope_local_theta is not None:
        _positive(path, rope_local_theta=config.rope_local_theta)
    if config.rope_scaling is not None:
        _positive(path, rope_scaling=config.rope_scaling.factor)
    return config


def check_tensors(checkpoint: Checkpoint, pieces: Iterable[Piece]) -> None:
    """Check that all pieces are there with their shapes, and that nothing else is."""
    used: set[str] = set()
    for piece in pieces:
        place = checkpoint.locate(piece)
        found = checkpoint.shapes.get(place.tensor)
        if found is None:
            raise ModelError(f"{checkpoint.path}: tensor {place.tensor} is missing")
        if found != place.shape:
            raise ModelError(
                f"{checkpoint.path}: tensor {place.tensor} has shape {list(found)}, "
                f"expected {list(place.shape)}"
            )
        used.add(place.tensor)
    unknown = sorted(set(checkpoint.shapes) - used)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ModelError(
            f"{checkpoint.path}: unknown tensors {', '.join(unknown[:3])}{more}: "
            f"this is not a plain {checkpoint.config.architecture} model"
        )


def chunks(shape: tuple[int, ...], *, first: int = 0) -> Iterator[tuple[int, int]]:
    """Row ranges that cover a tensor seen as a matrix, each some megabytes as float32."""
    count = math.prod(shape[:-1])
    step = max(1, _CHUNK_ELEMENTS // shape[-1])
    for start in range(0, count, step):
        yield first + start, first + min(count, start + step)


def end_tokens(stated: Iterable[int], special: Mapping[str, int]) -> tuple[int, ...]:
    """The stated ids in their order, then the known turn ends among the special tokens.

    A chat model's files commonly name one end of sequence while its template ends turns with
    another token; a client would then see the model talk to itself.
    """
    known = [special[name] for name in _TURN_ENDS if name in special]
    return tuple(dict.fromkeys((*stated, *known)))


def post_processor(text: TextConfig) -> dict[str, Any]:
    """The `post_processor` of a tokenizer.json for these settings.

    It puts the tokens of beginning and end of sequence where they say.
    """
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


def stated_sampling(source: Path, entries: Mapping[str, Any]) -> SamplingDefaults:
    """A model's own sampling defaults; one that no request could have is passed over, and logged.

    `entries` have the names of `generation_config.json`.
    """
    found = SamplingDefaults()
    for name, value in entries.items():
        try:
            found = file_defaults({name: value}, field=str(source)).over(found)
        except InvalidRequest as error:
            logger.warning("a sampling default is passed over: %s", error)
    return found


def _positive(path: Path, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ModelError(f"{path}: {name} must be a positive number, is {value}", field=name)
