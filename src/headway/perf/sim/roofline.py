"""Roofline profiles: a machine's published rates and a model's dimensions as a profile.

Nothing is measured. A step takes what its FLOPs and its memory traffic need at the published rates,
divided by the share of them that engines attain, and a fixed time; both are assumptions that stand
beside the rates in `data/devices.json`. Good for comparing machines, batches and policies; for
promises, measure (`headway profile`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from headway.codec import convert, decode, read_bytes
from headway.errors import InvalidRequest
from headway.steptime.architecture import Architecture, model_sizes
from headway.steptime.model import Residuals
from headway.steptime.profiles import Profile
from headway.steptime.shape import FIXED, PER_SEQUENCE, Features, PeakRates
from headway.types import Limits
from headway.types.engine import Hardware, SchedulerConfig

T = TypeVar("T")

BITS: Mapping[str, float] = MappingProxyType(
    {
        "float32": 32.0,
        "bfloat16": 16.0,
        "float16": 16.0,
        "float8": 8.0,
        "int8": 8.0,
        "int4": 4.5,  # with the scales of its groups
    }
)
"""Bits that a weight or a cached number takes, by number format."""
MEMORY_SHARE = 0.9
"""Of a device's memory, what weights and KV cache may fill."""
MAX_NUM_SEQS = 256
MAX_NUM_BATCHED_TOKENS = 8192
BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A machine: operations and bytes a second at its best, and the share that is attained."""

    name: str
    title: str
    memory: float
    """Bytes."""
    bandwidth: float
    rates: Mapping[str, float]
    """By number format; a format that is missing computes as bfloat16."""
    attainable: Mapping[str, float]
    """Shares of "arithmetic", "bandwidth" and, for attention's products, "attention"."""
    step_seconds: float
    """Fixed time of every step."""
    sequence_seconds: float
    """Time of every sequence in a step, whatever it computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineModel:
    """A model's dimensions and the most tokens of one sequence."""

    name: str
    title: str
    context: int
    architecture: Architecture


def device_names() -> tuple[str, ...]:
    return tuple(_data("devices"))


def model_names() -> tuple[str, ...]:
    return tuple(_data("models"))


def known_device(name: str) -> Device:
    """A device of the data file, or one in a JSON file of the same keys; `InvalidRequest` else."""
    device = _entry("devices", Device, name, field="--device")
    for share in ("arithmetic", "bandwidth", "attention"):
        if not 0.0 < device.attainable.get(share, 0.0) <= 1.0:
            raise InvalidRequest(
                f"device {name}: attainable {share} must be in (0, 1]", field="--device"
            )
    if min(device.memory, device.bandwidth, device.rates.get("bfloat16", 0.0)) <= 0.0:
        raise InvalidRequest(
            f"device {name}: memory, bandwidth and the rate of bfloat16 must be above 0",
            field="--device",
        )
    return device


def known_model(name: str) -> RooflineModel:
    """A model of the data file, or one in a JSON file of the same keys; `InvalidRequest` else."""
    return _entry("models", RooflineModel, name, field="--model")


def roofline_profile(
    device: Device,
    model: RooflineModel,
    *,
    dtype: str = "bfloat16",
    kv_cache_dtype: str = "bfloat16",
    block_size: int = BLOCK_SIZE,
    kv_cache_memory: int | None = None,
) -> Profile:
    """The profile; `kv_cache_memory` (bytes) is by default what the weights leave of the memory.

    Raises `InvalidRequest` where the model does not fit.
    """
    bits = _bits(dtype, "--dtype")
    sizes = model_sizes(
        model.architecture,
        name=model.name,
        weight_bits=bits,
        kv_bytes_per_element=_bits(kv_cache_dtype, "--kv-cache-dtype") / 8,
    )
    weight_bytes = model.architecture.parameters * bits / 8
    room = MEMORY_SHARE * device.memory - weight_bytes
    if kv_cache_memory is not None:
        room = min(room, kv_cache_memory)
    num_blocks = int(room // (sizes.kv_bytes_per_token * block_size))
    if num_blocks < 1:
        raise InvalidRequest(
            f"{model.title} in {dtype} takes {weight_bytes / 1e9:.1f} GB, which leaves no room for "
            f"a KV cache on {device.title} ({device.memory / 1e9:.0f} GB): choose a smaller "
            "--dtype or another --device",
            field="--device",
        )
    hardware = Hardware(
        device=device.name, dtype=dtype, kv_cache_dtype=kv_cache_dtype, backend="published rates"
    )
    return Profile(
        model=model.name,
        hardware=hardware,
        scheduler=_scheduler_config(num_blocks, block_size, context=model.context),
        sizes=sizes,
        machine=_peak_rates(device, dtype),
        coefficients=_coefficients(device),
        residuals=Residuals(),
        fit=None,
    )


def _scheduler_config(num_blocks: int, block_size: int, *, context: int) -> SchedulerConfig:
    return SchedulerConfig(
        limits=Limits(
            max_num_seqs=MAX_NUM_SEQS,
            max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS,
            max_num_partial_prefills=1,
            max_model_len=min(context, num_blocks * block_size),
        ),
        num_blocks=num_blocks,
        block_size=block_size,
    )


def _peak_rates(device: Device, dtype: str) -> PeakRates:
    return PeakRates(
        device=device.title,
        flops_per_second=device.rates.get(dtype, device.rates["bfloat16"]),
        bandwidth=device.bandwidth,
        dtype=dtype,
    )


def _coefficients(device: Device) -> Features:
    shares = device.attainable
    return Features(
        fixed=device.step_seconds / FIXED,
        sequences=device.sequence_seconds / PER_SEQUENCE,
        compute=1 / shares["arithmetic"],
        memory=1 / shares["bandwidth"],
        memory_half_rate=0.0,
        decode_cache=1 / shares["bandwidth"],
        prefill_attention=1 / shares["attention"],
        prefill_cache=1 / shares["bandwidth"],
        lm_head=1 / shares["arithmetic"],
        mixed=0.0,
    )


def _bits(dtype: str, field: str) -> float:
    if dtype not in BITS:
        raise InvalidRequest(f"{dtype!r} is none of {', '.join(BITS)}", field=field)
    return BITS[dtype]


def _data(kind: str) -> dict[str, dict[str, Any]]:
    text = resources.files("headway.perf.sim").joinpath(f"data/{kind}.json").read_text("utf-8")
    return decode(dict[str, dict[str, Any]], text, kind)[kind]


def _entry(kind: str, made: type[T], name: str, *, field: str) -> T:
    """The entry of that name in a data file, or the one in the JSON file of that path."""
    known = _data(kind)
    values = known.get(name.lower())
    if values is None and not name.endswith(".json"):
        raise InvalidRequest(
            f"{name!r} is none of {', '.join(known)}, nor a JSON file", field=field
        )
    source = f"{kind.removesuffix('s')} {name}"
    if values is None:
        values = decode(dict[str, Any], read_bytes(name), source)
    return convert(made, {**values, "name": Path(name).name.removesuffix(".json")}, source)
