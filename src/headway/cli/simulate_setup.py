"""What `headway simulate` simulates, from its flags: a machine, and the engines that run on it.

The machine is a measured profile, or published rates; the engine is the profile's, with the
settings that flags replace.
"""

from __future__ import annotations

import argparse
from dataclasses import fields, replace

from headway.cli.flags import add_flags, collect, settings_of, whole_number
from headway.cli.price_flags import add_price_flags
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.errors import InvalidRequest
from headway.perf.sim.roofline import (
    BITS,
    device_names,
    known_device,
    known_model,
    model_names,
    roofline_profile,
)
from headway.perf.sim.simulate import Setup
from headway.routing import ROUTERS, router_name
from headway.scheduling.policy import POLICIES, policy_config
from headway.steptime.profiles import Profile, find_profile, load_profile
from headway.types import Limits
from headway.types.engine import SchedulerConfig
from headway.types.fleet import FleetConfig, Role, parse_roles
from headway.types.speculation import SpeculativeConfig

ENGINE_FLAGS = (
    "policy",
    "policy_options",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_num_partial_prefills",
    "block_size",
    "kv_cache_memory",
    "kv_reservation",
    "enable_prefix_caching",
    "speculative_config",
)
"""Settings of the engine that mean something without one."""
_LEFT_OUT = tuple(each.name for each in fields(EngineConfig) if each.name not in ENGINE_FLAGS)


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
    add_price_flags(group, of="one machine")


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


def add_setup_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the machine, the engine and the number of replicas; read by `setup_from`."""
    add_machine_flags(parser.add_argument_group("machine"))
    engine = parser.add_argument_group("engine (default: as in the profile)")
    of_profile = {"block_size": None, "max_num_partial_prefills": None}
    add_flags(engine, EngineConfig, leave_out=_LEFT_OUT, defaults=of_profile)
    engine.add_argument(
        "--acceptance",
        type=float,
        metavar="P",
        help="compute tokens ahead, each of which is right with this probability (default: none)",
    )
    engine.add_argument("--num-blocks", type=whole_number, metavar="N", help="of the KV cache")
    fleet = parser.add_argument_group("fleet")
    fleet.add_argument("--replicas", type=int, metavar="N", help="machines (default: 1)")
    fleet.add_argument(
        "--router", help=f"before several: {', '.join(ROUTERS)} (default: predicted)"
    )
    add_flags(fleet, FleetConfig, leave_out=("replicas", "router"))


def acceptance_from(arguments: argparse.Namespace) -> float | None:
    """How often drafts are right; None: there are none. Raises `InvalidRequest` naming the flag."""
    acceptance: float | None = arguments.acceptance
    if acceptance is None:
        if arguments.speculative_config is not None:
            raise InvalidRequest(
                "--speculative-config needs --acceptance: a simulation has no text to draft from",
                field="--speculative-config",
            )
        return None
    if not 0 <= acceptance <= 1:
        raise InvalidRequest(
            f"--acceptance must be from 0 to 1, not {acceptance:g}", field="--acceptance"
        )
    return acceptance


def _speculation(config: EngineConfig, acceptance: float | None) -> SpeculativeConfig | None:
    if acceptance is None:
        return None
    speculation = config.speculative()
    if speculation.method == "draft_model":
        raise InvalidRequest(
            "--speculative-config: a draft model's own time is not simulated; leave model out",
            field="--speculative-config",
        )
    return speculation


def setup_from(arguments: argparse.Namespace, profile: Profile) -> Setup:
    """The profile's engine with the settings that the flags give."""
    config = collect(EngineConfig, _engine_only(arguments))
    given = arguments.block_size
    measured = profile.scheduler
    block_size = measured.block_size if given is None else config.block_size
    num_blocks = measured.num_blocks * measured.block_size // block_size
    if arguments.num_blocks is not None and config.kv_cache_memory is not None:
        raise InvalidRequest(
            "--num-blocks and --kv-cache-memory exclude each other", field="--num-blocks"
        )
    if config.kv_cache_memory is not None:
        num_blocks = int(config.kv_cache_memory // (profile.sizes.kv_bytes_per_token * block_size))
    if arguments.num_blocks is not None:
        num_blocks = arguments.num_blocks
    if num_blocks < 1:
        raise InvalidRequest("the KV cache needs one block at least", field="--num-blocks")
    acceptance = acceptance_from(arguments)
    roles = roles_from(arguments)
    replicas = len(roles) or 1
    if arguments.replicas is not None:
        replicas = arguments.replicas
    if replicas < 1:
        raise InvalidRequest(f"--replicas must be at least 1, got {replicas}", field="--replicas")
    if roles and replicas != len(roles):
        raise InvalidRequest(
            f"--roles are given for {len(roles)} replicas, and --replicas is {replicas}; leave "
            "--replicas out, or give as many roles",
            field="--roles",
        )
    return Setup(
        profile=profile,
        scheduler=SchedulerConfig(
            policy=policy_config(config.policy, config.policy_options),
            limits=_limits(arguments, config, measured.limits, num_blocks * block_size),
            num_blocks=num_blocks,
            block_size=block_size,
            prefix_caching=config.enable_prefix_caching,
            reservation=config.kv_reservation,
            speculation=_speculation(config, acceptance),
        ),
        acceptance=acceptance,
        replicas=replicas,
        router=router_name("predicted" if arguments.router is None else arguments.router),
        roles=roles,
        fixed_roles=bool(arguments.fixed_roles),
    )


def roles_from(arguments: argparse.Namespace) -> tuple[Role, ...]:
    """What each replica is for; none without --roles. Raises `InvalidRequest` naming the flag."""
    try:
        roles = parse_roles(arguments.roles)
    except InvalidRequest as error:
        raise InvalidRequest(f"--{error.message}", field="--roles") from None
    if arguments.fixed_roles and not roles:
        raise InvalidRequest(
            "--fixed-roles needs --roles, such as prefill,decode", field="--fixed-roles"
        )
    return roles


def with_every_use_of_roles(setup: Setup) -> list[Setup]:
    """The setup without roles, with roles that are fixed, and with roles as a bias."""
    if not setup.roles:
        raise InvalidRequest(
            "--compare-roles needs --roles, such as prefill:2,decode:2", field="--compare-roles"
        )
    return [
        replace(setup, roles=(), fixed_roles=False),
        replace(setup, fixed_roles=True),
        replace(setup, fixed_roles=False),
    ]


def with_every_policy(arguments: argparse.Namespace, setup: Setup) -> list[Setup]:
    """The setup under each policy, with the policy options that the flags give."""
    options = collect(EngineConfig, _engine_only(arguments)).policy_options
    policies = [policy_config(name, options) for name in POLICIES]
    return [
        replace(setup, scheduler=replace(setup.scheduler, policy=policy)) for policy in policies
    ]


def _engine_only(arguments: argparse.Namespace) -> argparse.Namespace:
    """Without flags that an engine spells alike but that mean another thing here."""
    return argparse.Namespace(**{name: getattr(arguments, name) for name in engine_flag_names()})


def engine_flag_names() -> list[str]:
    """Attributes of the parsed arguments that hold settings of the engine."""
    return [setting.name for setting in settings_of(EngineConfig, leave_out=_LEFT_OUT)]


def _limits(
    arguments: argparse.Namespace, config: EngineConfig, found: Limits, room: int
) -> Limits:
    partial = arguments.max_num_partial_prefills
    return Limits(
        max_num_seqs=config.max_num_seqs or found.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens or found.max_num_batched_tokens,
        max_num_partial_prefills=(
            found.max_num_partial_prefills if partial is None else config.max_num_partial_prefills
        ),
        max_model_len=min(config.max_model_len or found.max_model_len, room),
    )
