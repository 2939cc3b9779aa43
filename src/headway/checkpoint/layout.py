"""The canonical tensors of a model: their names, their shapes, and what each is put together from.

`canonical_tensors(config)` lists them in the order they are written. A tensor is made of pieces,
each some rows of one tensor of the source, named by its role ("q", "gate", ...); the formats (GGUF,
Hugging Face) translate a role into their own name and nothing else. Knows no file and no array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headway.types.model import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """All rows of one tensor of the source, or of one expert's where `expert` is set.

    `role` says which: one of "embed", "norm", "head" outside the layers; "attention_norm", "q",
    "k", "v", "q_norm", "k_norm", "output", "post_attention_norm", "mlp_norm", "gate", "up",
    "down", "post_mlp_norm", "router" inside.
    """

    role: str
    shape: tuple[int, ...]
    layer: int | None = None
    expert: int | None = None
    bias: bool = False
    heads: int | None = None
    """Of queries and keys, the number of heads their rows belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalTensor:
    """One canonical tensor: its pieces' rows, one after the other, reshaped to `shape`."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def norm(self) -> bool:
        """A norm's weight, which stays float32 and multiplies directly."""
        return self.pieces[0].role.endswith("norm")


def canonical_tensors(config: ModelConfig) -> Iterator[CanonicalTensor]:
    """Every canonical tensor of a model, in the order of computation."""
    hidden, vocabulary = config.hidden_size, config.vocab_size
    yield _single("embed.weight", Piece(role="embed", shape=(vocabulary, hidden)))
    for layer in range(config.num_layers):
        yield from _attention(config, layer)
        yield from _mlp(config, layer)
    yield _single("norm.weight", Piece(role="norm", shape=(hidden,)))
    if not config.tie_embeddings:
        yield _single("head.weight", Piece(role="head", shape=(vocabulary, hidden)))


def _attention(config: ModelConfig, layer: int) -> Iterator[CanonicalTensor]:
    prefix, hidden, size = f"layers.{layer}.", config.hidden_size, config.head_dim
    queries, keys = config.num_heads * size, config.num_kv_heads * size
    yield _norm(config, layer, "attention_norm")
    for bias in (False, True) if config.attention_bias else (False,):
        columns = () if bias else (hidden,)
        yield CanonicalTensor(
            name=f"{prefix}qkv.{'bias' if bias else 'weight'}",
            shape=(queries + 2 * keys, *columns),
            pieces=tuple(
                Piece(role=role, shape=(rows, *columns), layer=layer, bias=bias, heads=heads)
                for role, rows, heads in (
                    ("q", queries, config.num_heads),
                    ("k", keys, config.num_kv_heads),
                    ("v", keys, None),
                )
            ),
        )
    if config.qk_norm:
        for role in ("q_norm", "k_norm"):
            yield _single(f"{prefix}{role}.weight", Piece(role=role, shape=(size,), layer=layer))
    yield _single(
        f"{prefix}output.weight", Piece(role="output", shape=(hidden, queries), layer=layer)
    )
    if config.output_bias:
        yield _single(
            f"{prefix}output.bias", Piece(role="output", shape=(hidden,), layer=layer, bias=True)
        )
    if config.architecture == "gemma3":
        yield _norm(config, layer, "post_attention_norm")


def _mlp(config: ModelConfig, layer: int) -> Iterator[CanonicalTensor]:
    prefix, hidden = f"layers.{layer}.", config.hidden_size
    yield _norm(config, layer, "mlp_norm")
    if config.is_moe(layer):
        experts = config.num_experts
        yield _single(
            f"{prefix}router.weight", Piece(role="router", shape=(experts, hidden), layer=layer)
        )
        yield from _feed_forward(
            f"{prefix}experts.", layer, hidden, config.moe_intermediate_size, experts
        )
    else:
        yield from _feed_forward(prefix, layer, hidden, config.intermediate_size, None)
        if config.mlp_bias:
            inner = config.intermediate_size
            yield CanonicalTensor(
                name=f"{prefix}gate_up.bias",
                shape=(2 * inner,),
                pieces=tuple(
                    Piece(role=role, shape=(inner,), layer=layer, bias=True)
                    for role in ("gate", "up")
                ),
            )
            yield _single(
                f"{prefix}down.bias", Piece(role="down", shape=(hidden,), layer=layer, bias=True)
            )
    if config.architecture == "gemma3":
        yield _norm(config, layer, "post_mlp_norm")


def _feed_forward(
    prefix: str, layer: int, hidden: int, inner: int, experts: int | None
) -> Iterator[CanonicalTensor]:
    stack = () if experts is None else (experts,)
    numbers = (None,) if experts is None else range(experts)
    yield CanonicalTensor(
        name=f"{prefix}gate_up.weight",
        shape=(*stack, 2 * inner, hidden),
        pieces=tuple(
            Piece(role=role, shape=(inner, hidden), layer=layer, expert=expert)
            for expert in numbers
            for role in ("gate", "up")
        ),
    )
    yield CanonicalTensor(
        name=f"{prefix}down.weight",
        shape=(*stack, hidden, inner),
        pieces=tuple(
            Piece(role="down", shape=(hidden, inner), layer=layer, expert=expert)
            for expert in numbers
        ),
    )


def _norm(config: ModelConfig, layer: int, role: str) -> CanonicalTensor:
    piece = Piece(role=role, shape=(config.hidden_size,), layer=layer)
    return _single(f"layers.{layer}.{role}.weight", piece)


def _single(name: str, piece: Piece) -> CanonicalTensor:
    return CanonicalTensor(name=name, shape=piece.shape, pieces=(piece,))
