"""Messages between the API process and the engine process, and how they travel.

One local stream socket, both ways; every message is a little-endian 32-bit length and that many
bytes of MessagePack. Nothing here executes what it reads, and both ends check types and sizes.
The engine knows no text, so messages carry none but names and errors. Lists of items are sent in
as many frames as their encoded size needs, and an item that fits in none is handed back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal, TypeVar

import msgspec

from headway.config import Dtype, EngineConfig, KVCacheDtype, LogFormat
from headway.steptime.margins import NO_MARGINS, Margins
from headway.steptime.model import Regime
from headway.steptime.shape import Features, ModelSizes, PeakRates
from headway.types import Request, TokenEvent
from headway.types.batch_news import BatchNews
from headway.types.engine import Hardware, SchedulerConfig
from headway.types.traffic import Traffic

MAX_MESSAGE = 256 * 2**20
FRAME_BYTES = 4 * 2**20  # of items sent together, so that the peer can begin with the first ones
HEADER = struct.Struct("<I")


class PreparedDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A draft model's folder, ready to be loaded beside the model that it drafts for."""

    prepared: str
    dtype: Dtype
    kv_cache_dtype: KVCacheDtype
    """In what it is prepared and computed, whatever the settings say of the other model."""


class Start(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """First message down: run this prepared model."""

    config: EngineConfig
    prepared: str
    """Folder of the prepared model (see `headway.checkpoint`)."""
    draft: PreparedDraft | None = None
    """What guesses its tokens, where the settings want a draft model."""
    log_level: int = 20
    """Least level of what the engine process logs, as `logging` counts them."""
    log_format: LogFormat = "text"
    cpus: tuple[int, ...] = ()
    gpu: str = ""
    """Cores that the process keeps to, and a GPU as CUDA_VISIBLE_DEVICES names it; empty: any."""
    restart: bool = False
    """An engine has run with these settings: what is not needed for tokens must not stop it."""
    kv_cache_fd: int | None = None
    """Inherited: a file of memory for the KV cache, with what an engine before this one left."""


class Submit(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    requests: list[Request]


class OwnPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is a request's own where it shares all else with others that came with it."""

    id: str
    seed: int
    max_tokens: int
    min_tokens: int = 0
    prompt_logprobs: int | None = None
    group: str = ""
    prompt: tuple[int, ...] | None = None
    """None: the shared one."""
    generated: tuple[int, ...] = ()


class SubmitGroup(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Requests that one caller made at once: what they share is sent, and then kept, once."""

    shared: Request
    """One of them; of no more meaning than any other."""
    own: list[OwnPart]

    @property
    def requests(self) -> list[Request]:
        return [_joined(self.shared, each) for each in self.own]


class Abort(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    ids: list[str]


class Watch(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Down: somebody watches the batch, or nobody does any more; see `BatchNews`."""

    interval: float | None
    """Seconds between two tellings; None: tell nothing."""


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine found and chose, for logs, limits and `headway doctor`."""

    hardware: Hardware
    scheduler: SchedulerConfig
    kv_bytes: int  # of the whole KV cache
    weight_bytes: int
    sizes: ModelSizes | None = None
    """What a step's least time depends on, of the model ..."""
    machine: PeakRates | None = None
    """... and of the machine; None where it could not be measured."""
    pinned: tuple[str, ...] = ()
    """Limits that a user has set, by the names of their settings."""
    adopted_blocks: int = 0
    """KV blocks that an engine before this one computed, and that need not be computed again."""
    loads_blocks: bool = False
    """It loads KV blocks that other engines of the machine computed, if told where they are."""


ModelStatus = Literal["prior", "learned", "fallback"]
"""From the machine's peak rates alone, from the engine's steps, or known to be off."""


class LearnedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The step-time model that the engine plans with, so that others can predict as it does."""

    status: ModelStatus
    coefficients: Features
    margins: Margins = NO_MARGINS
    steps: int = 0
    """That it has learned from."""
    error: float | None = None
    """Mean relative error on the last steps."""
    off: tuple[Regime, ...] = ()
    """Kinds of steps whose predictions are far off, so that their margins are the largest."""


class PacingStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the size of the batch follows from, as the engine knows it."""

    at: float
    """When this was so, in seconds on the machine's monotonic clock."""
    traffic: Traffic | None = None
    """None before any request has ended."""
    model: LearnedModel | None = None
    """None where the machine's peak rates are not known."""
    sequences: int = 0
    """Of the last step that was looked at ..."""
    tokens: int = 0
    """... its new tokens ..."""
    drafting: int = 0
    """... its sequences that had drafts ..."""
    predicted_seconds: float | None = None
    """... its cycle's predicted time, made before it was computed ..."""
    bound_seconds: float | None = None
    """... and the time that few such steps exceed."""


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's state after a step; counters grow from the engine process's start."""

    step: int = 0
    running: int = 0
    waiting: int = 0
    deferred: int = 0
    """Part of `waiting`: those that the policy holds back though there are free slots."""
    free_blocks: int = 0
    cached_blocks: int = 0
    """Free blocks whose contents may still be hit."""
    step_seconds: float = 0.0
    step_tokens: int = 0
    """New tokens computed in this step."""
    idle_slots: int = 0
    """Slots of the batch that the policy held but left idle in this step."""
    preemptions: int = 0
    gave_way: int = 0
    """Part of `preemptions`: those for the fair share of another caller."""
    drafts: int = 0
    draft_tokens: int = 0
    """How often a sequence had tokens computed ahead of their sampling, and how many in all."""
    accepted_tokens: int = 0
    """Those of them that sampling confirmed."""
    accepted_per_position: tuple[int, ...] = ()
    """How many of `drafts` had their first token confirmed, first two, and so on to the most."""
    declined: int = 0
    """How often a sequence could have had some, in steps in which that did not pay."""
    relegated: int = 0
    """Requests that could not be on time, and waited for what others left."""
    shed: int = 0
    """Requests that were refused for the same reason."""
    computed_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    """Prompt tokens looked up in, and found in, the prefix cache."""
    busy_seconds: float = 0.0
    """From the planning of each step to that of the next, or to the end of work."""
    ideal_seconds: float = 0.0
    """What these steps take at the machine's limits; 0 where they are not known."""
    pacing: PacingStats | None = None
    """Now and then; None where it is as it was told last."""


class Ready(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    info: EngineInfo


class Events(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Up, after every step and for every refusal or abort: what each request hears."""

    events: list[TokenEvent]
    stats: EngineStats


class Heartbeat(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Up, once a second from the process's start, whatever else it does."""

    step: int = 0
    """Steps that were begun, the one under way included."""
    seconds: float | None = None
    """For how long the step under way has lasted; None between steps."""


class Failed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Last message up: the engine cannot start or go on, and why, for a person to read."""

    message: str
    field: str | None = None


ToEngine = Start | Submit | SubmitGroup | Abort | Watch
FromEngine = Ready | Events | BatchNews | Heartbeat | Failed

_Item = TypeVar("_Item")
_ENVELOPE = 4096
"""Bytes that a message may take beside its items."""
_encoder = msgspec.msgpack.Encoder()
_to_engine: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
_from_engine: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)


def pack(message: ToEngine | FromEngine) -> bytes:
    """The message as a frame, header included; raises `ValueError` where it is too large."""
    return _frame(_encoder.encode(message))


def pack_requests(requests: Sequence[Request]) -> tuple[list[bytes], list[tuple[Request, str]]]:
    """Frames of the requests in order, and those that cannot be sent, each with the reason."""
    frames: list[bytes] = []
    refused: list[tuple[Request, str]] = []
    alone: list[Request] = []
    # What one caller asks at once arrives at once: several prompts, or continuations of one.
    for _, together in groupby(requests, key=lambda each: each.arrival):
        first, *others = together
        if not others:
            alone.append(first)
            continue
        for pack_some, some in ((_pack_alone, alone), (_pack_group, [first, *others])):
            packed, left = pack_some(some)
            frames += packed
            refused += left
        alone = []
    packed, left = _pack_alone(alone)
    return frames + packed, refused + left


def pack_aborts(ids: Sequence[str]) -> tuple[list[bytes], list[tuple[str, str]]]:
    """Frames of `Abort`, and the ids that cannot be sent, each with the reason."""
    return _split(ids, _Abort)


def pack_events(
    events: list[TokenEvent], stats: EngineStats
) -> tuple[list[bytes], list[tuple[TokenEvent, str]]]:
    """One frame of `Events`, or several where it would be too large; and what cannot be sent."""
    try:
        return [pack(Events(events=events, stats=stats))], []
    except Exception:
        return _split(events, lambda items: _Events(events=items, stats=stats))


def _pack_alone(requests: list[Request]) -> tuple[list[bytes], list[tuple[Request, str]]]:
    return _split(requests, _Submit)


def _pack_group(requests: list[Request]) -> tuple[list[bytes], list[tuple[Request, str]]]:
    shared = requests[0]
    own = [_own_part(shared, request) for request in requests]
    if any(_joined(shared, part) != each for part, each in zip(own, requests, strict=True)):
        return _pack_alone(requests)
    try:
        encoded = _encoder.encode(shared)
    except Exception:
        return _pack_alone(requests)  # which tells the one that cannot be sent from the others
    if len(encoded) > MAX_MESSAGE - 2 * FRAME_BYTES:
        return _pack_alone(requests)
    frames, refused = _split(own, lambda parts: _Group(shared=msgspec.Raw(encoded), own=parts))
    by_id = {request.id: request for request in requests}
    return frames, [(by_id[part.id], reason) for part, reason in refused]


def _own_part(shared: Request, request: Request) -> OwnPart:
    return OwnPart(
        id=request.id,
        seed=request.sampling.seed,
        max_tokens=request.sampling.max_tokens,
        min_tokens=request.sampling.min_tokens,
        prompt_logprobs=request.sampling.prompt_logprobs,
        group=request.group,
        prompt=None if request.prompt is shared.prompt else request.prompt,
        generated=request.generated,
    )


def _joined(shared: Request, own: OwnPart) -> Request:
    return replace(
        shared,
        id=own.id,
        prompt=shared.prompt if own.prompt is None else own.prompt,
        sampling=replace(
            shared.sampling,
            seed=own.seed,
            max_tokens=own.max_tokens,
            min_tokens=own.min_tokens,
            prompt_logprobs=own.prompt_logprobs,
        ),
        group=own.group,
        generated=own.generated,
    )


class _Group(msgspec.Struct, tag="SubmitGroup", kw_only=True):
    shared: msgspec.Raw
    own: list[msgspec.Raw]


class _Submit(msgspec.Struct, tag="Submit"):
    requests: list[msgspec.Raw]


class _Abort(msgspec.Struct, tag="Abort"):
    ids: list[msgspec.Raw]


class _Events(msgspec.Struct, tag="Events", kw_only=True):
    events: list[msgspec.Raw]
    stats: EngineStats


def _split(
    items: Iterable[_Item], message: Callable[[list[msgspec.Raw]], msgspec.Struct]
) -> tuple[list[bytes], list[tuple[_Item, str]]]:
    """Items in messages of about `FRAME_BYTES`; those that no message can hold come back."""
    frames: list[bytes] = []
    refused: list[tuple[_Item, str]] = []
    batch: list[msgspec.Raw] = []
    size = 0
    for item in items:
        try:
            encoded = _encoder.encode(item)
            if len(encoded) > MAX_MESSAGE - _ENVELOPE:
                raise ValueError(_too_large(len(encoded)))
        except Exception as error:
            refused.append((item, str(error) or type(error).__name__))
            continue
        if batch and size + len(encoded) > FRAME_BYTES:
            frames.append(_frame(_encoder.encode(message(batch))))
            batch, size = [], 0
        batch.append(msgspec.Raw(encoded))
        size += len(encoded)
    if batch:
        frames.append(_frame(_encoder.encode(message(batch))))
    return frames, refused


def _frame(body: bytes) -> bytes:
    if len(body) > MAX_MESSAGE:
        raise ValueError(_too_large(len(body)))
    return HEADER.pack(len(body)) + body


def _too_large(size: int) -> str:
    return f"it takes {size} bytes, of which a message holds {MAX_MESSAGE}"


def body_length(header: bytes) -> int:
    """Bytes that follow a frame's header; raises `ValueError` where that is absurd."""
    length: int = HEADER.unpack(header)[0]
    if length > MAX_MESSAGE:
        raise ValueError(f"frame of {length} bytes exceeds {MAX_MESSAGE}")
    return length


def read_to_engine(body: bytes | memoryview[Any]) -> ToEngine:
    return _to_engine.decode(body)


def read_from_engine(body: bytes | memoryview[Any]) -> FromEngine:
    return _from_engine.decode(body)
