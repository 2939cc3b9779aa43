"""What a model is, in numbers: all that the tensor tower must know besides the weights.

One flat, frozen description for every family, written once when a model is prepared and read back
at every start. Defaults are those of a plain Llama; a family sets what it does differently.
Nothing here knows tensors, files or formats.

What a model's text is made of besides its tokenizer: special tokens and the chat template.

Written once when a model is prepared, read back at every start. Whoever converts a model and
whoever encodes text share only this; it knows neither files nor tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headway.types.sampling_defaults import SamplingDefaults

Architecture = Literal["llama", "qwen2", "qwen3", "qwen3_moe", "gemma3"]
Activation = Literal["silu", "gelu_tanh"]
RopeKind = Literal["linear", "llama3", "yarn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context; None is the kind's default.

    `original_max_position` is the context length the frequencies were trained on.
    """

    kind: RopeKind
    factor: float
    original_max_position: int | None = None
    low_freq_factor: float = 1.0
    """llama3: wavelengths longer than original_max_position / this are divided by `factor`."""
    high_freq_factor: float = 4.0
    """llama3: wavelengths shorter than original_max_position / this stay as they are."""
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    """yarn: rotations over the trained context between which the two regimes are blended."""
    attention_factor: float | None = None
    """yarn: factor on cosines and sines; derived from `factor` and the mscales when None."""
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    """yarn: round the ends of the blend to whole dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One decoder-only transformer. Sizes are counts of elements, not bytes.

    Norm weights are stored so that they multiply directly. `sliding_layers` says per layer
    whether attention sees only the last `sliding_window` positions, itself included; empty means
    that no layer does.
    """

    architecture: Architecture
    name: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_position: int
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    rope_local_theta: float | None = None
    """Rotary base of the sliding layers where it differs (Gemma 3); they are never scaled."""
    sliding_window: int | None = None
    sliding_layers: tuple[bool, ...] = ()
    tie_embeddings: bool = False
    attention_bias: bool = False
    """Queries, keys and values have biases."""
    output_bias: bool = False
    """The attention output has a bias."""
    mlp_bias: bool = False
    qk_norm: bool = False
    """Each head's queries and keys are normalised before the rotation."""
    embedding_scale: float = 1.0
    query_scale: float | None = None
    """Factor on attention scores; head_dim ** -0.5 when None."""
    activation: Activation = "silu"
    num_experts: int = 0
    num_experts_per_token: int = 0
    moe_intermediate_size: int = 0
    norm_topk_prob: bool = True
    moe_layers: tuple[bool, ...] = ()
    """Per layer, whether its MLP is a mixture of experts; empty means all, if there are any."""
    attention_softcap: float | None = None
    final_softcap: float | None = None

    @property
    def attention_scale(self) -> float:
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale

    def window(self, layer: int) -> int | None:
        """Positions that attention of this layer sees, itself included; None for all."""
        if self.sliding_window is None or not self.sliding_layers:
            return None
        return self.sliding_window if self.sliding_layers[layer] else None

    def is_moe(self, layer: int) -> bool:
        if self.num_experts == 0:
            return False
        return self.moe_layers[layer] if self.moe_layers else True


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """The special tokens of a model and how its prompts are framed.

    `eos_token_ids` are all tokens that end an answer: the model's own end of sequence first, then
    its end-of-turn tokens. `bos_token` and its like are spelt as chat templates need them.
    """

    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    unk_token_id: int | None = None
    bos_token: str = ""
    eos_token: str = ""
    pad_token: str = ""
    unk_token: str = ""
    add_bos: bool = False
    """Encoding with special tokens puts `bos_token_id` first."""
    add_eos: bool = False
    """Encoding with special tokens puts the first of `eos_token_ids` last."""
    add_space_prefix: bool = False
    """The tokenizer puts a space before a text's first word, and decoding takes it away."""
    chat_template: str | None = None
    """A Jinja template; None for a model that does not chat."""
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    """What the model's files say of requests that leave sampling open."""
