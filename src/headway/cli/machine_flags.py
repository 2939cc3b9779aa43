"""Flags that name a machine to simulate: a measured profile, or published rates."""

from __future__ import annotations

import argparse

from headway.config import DEFAULT_MODEL
from headway.errors import InvalidRequest
from headway.perf.sim.roofline import (
    BITS,
    device_names,
    known_device,
    known_model,
    model_names,
    roofline_profile,
)
from headway.steptime.profiles import Profile, find_profile, load_profile


def add_machine_flags(group: argparse._ActionsContainer) -> None:
    """Flags of the machine and the model on it; read by `profile_from`."""
    group.add_argument("--profile", metavar="NAME", help="a kept profile, or a profile's file")
    group.add_argument(
        "--device",
        help=f"a machine by its published rates instead: {', '.join(device_names())}, or a JSON "
        "file of the same keys",
    )
    group.add_argument(
        "--model",
        help=f"with --device: {', '.join(model_names())}, or a JSON file; else the model whose "
        f"kept profile is taken (default: {DEFAULT_MODEL})",
    )
    group.add_argument("--dtype", choices=BITS, help="with --device (default: bfloat16)")
    group.add_argument("--kv-cache-dtype", choices=BITS, help="with --device (default: bfloat16)")
    group.add_argument("--price-per-hour", type=float, metavar="X", help="of one machine")


def profile_from(arguments: argparse.Namespace) -> Profile:
    """The machine that the flags name; raises `InvalidRequest` that says how to get one."""
    if arguments.device is not None:
        if arguments.profile is not None:
            raise InvalidRequest("--profile and --device exclude each other", field="--device")
        if arguments.model is None:
            raise InvalidRequest(
                f"--device needs --model, one of {', '.join(model_names())}", field="--model"
            )
        return roofline_profile(
            known_device(arguments.device),
            known_model(arguments.model),
            dtype=arguments.dtype or "bfloat16",
            kv_cache_dtype=arguments.kv_cache_dtype or "bfloat16",
        )
    for name in ("dtype", "kv_cache_dtype"):
        if getattr(arguments, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise InvalidRequest(f"{flag} needs --device: a profile has its own", field=flag)
    if arguments.profile is not None:
        if arguments.model is not None:
            raise InvalidRequest("a --profile has its own model", field="--model")
        return load_profile(arguments.profile)
    model = arguments.model or DEFAULT_MODEL
    found = find_profile(model=model)
    if found is None:
        raise InvalidRequest(
            f"no profile of {model} is kept on this machine: measure one with `headway profile "
            f"{model}`, or take published rates with --device and --model",
            field="--profile",
        )
    return found
