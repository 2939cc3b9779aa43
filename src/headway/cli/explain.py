"""`headway explain`: the right batch size, of a server that runs or of a machine nobody owns.

By default it asks a running server for its `/slo`. With flags for a machine it computes the same
explanation from a profile or from published rates, and from the traffic that other flags state.
"""

from __future__ import annotations

import argparse
import http.client
import math
import ssl
from dataclasses import dataclass, fields, replace
from random import Random

import msgspec

from headway.cli.explain_text import explained, reported
from headway.cli.flags import add_flags, collect, whole_number
from headway.cli.price_flags import price_from
from headway.cli.simulate_setup import add_machine_flags, profile_from
from headway.cli.workload_flags import INPUT_LEN, OUTPUT_LEN
from headway.codec import encode
from headway.config import EngineConfig
from headway.environment import from_environment
from headway.errors import InvalidRequest, Unavailable
from headway.perf.bench.http_connection import Address
from headway.perf.workload.lengths import SYNTAX, parse_lengths
from headway.steptime.explanation import Explanation, Situation, explain
from headway.steptime.margins import BoundedModel, margins_of
from headway.steptime.profiles import Profile
from headway.steptime.slo_report import LimitsReport, SloReport
from headway.types import Limits
from headway.types.objectives import Objective, pace_of, parse_objectives
from headway.types.traffic import Traffic

URL = "http://127.0.0.1:8000"
TIMEOUT = 10.0
"""Seconds to wait for a server."""
_LARGEST = 2**22
_DRAWS = 4096
"""Lengths from which the means of a distribution are taken."""
_SHARE = 0.98
"""Of steps, those that a profile's bound holds for."""
_SETTINGS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "kv_cache_memory")
_LEFT_OUT = tuple(each.name for each in fields(EngineConfig) if each.name not in _SETTINGS)
_MACHINE = ("profile", "device", "model", "dtype", "kv_cache_dtype", "price_per_hour", "currency")
_TRAFFIC = ("slo", "input_len", "output_len", "request_rate")
_PLANNED = (*_MACHINE, *_SETTINGS, "num_blocks", *_TRAFFIC)
"""Flags that describe what does not run here."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    server = parser.add_argument_group("a server that runs (the default)")
    server.add_argument("--url", help=f"its address (default: HEADWAY_URL, else {URL})")
    server.add_argument("--api-key", metavar="KEY", help="default: HEADWAY_API_KEY, if it is set")
    machine = parser.add_argument_group("or a machine, and the model on it")
    add_machine_flags(machine)
    add_flags(machine, EngineConfig, leave_out=_LEFT_OUT)
    machine.add_argument("--num-blocks", type=whole_number, metavar="N", help="of the KV cache")
    traffic = parser.add_argument_group("with this traffic")
    traffic.add_argument(
        "--slo", metavar="LIST", help="objectives, such as ttft_p99=1s,tpot_p99=50ms"
    )
    traffic.add_argument(
        "--input-len",
        metavar="DIST",
        help=f"length of prompts, without prefix hits: {SYNTAX} (default: {INPUT_LEN})",
    )
    traffic.add_argument(
        "--output-len", metavar="DIST", help=f"length of answers (default: {OUTPUT_LEN})"
    )
    traffic.add_argument(
        "--request-rate",
        type=float,
        metavar="R",
        help="requests a second (default: as many as can be served)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    given = [name for name in _PLANNED if getattr(arguments, name) is not None]
    if not given:
        report = fetched(*_server(arguments))
        print(encode(report, pretty=True).decode() if arguments.json else reported(report))
        return 0
    for name in ("url", "api_key"):
        if getattr(arguments, name) is not None:
            other = "--" + given[0].replace("_", "-")
            flag = "--" + name.replace("_", "-")
            raise InvalidRequest(
                f"{other} would have no effect on a server that runs: leave it or {flag} out",
                field=other,
            )
    plan = planned(arguments)
    print(encode(plan, pretty=True).decode() if arguments.json else _text(plan))
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `--json` prints of a machine."""

    machine: str
    model: str
    objectives: tuple[str, ...]
    limits: LimitsReport
    prompt: float
    """Mean tokens."""
    output: float
    requests_per_second: float | None
    cost_per_million: float | None
    """Price of a million generated tokens; None without a price."""
    currency: str | None
    explanation: Explanation


def planned(arguments: argparse.Namespace) -> Plan:
    """The explanation of what the flags describe; raises `InvalidRequest` naming the flag."""
    profile = profile_from(arguments)
    objectives = parse_objectives(arguments.slo) if arguments.slo is not None else ()
    limits, tokens, pinned = _limits(arguments, profile)
    traffic = _traffic(arguments, limits, objectives)
    times = BoundedModel(profile.step_times(), margins_of(profile.residuals, _SHARE))
    situation = Situation(times=times, traffic=traffic, kv_tokens=tokens, limits=limits)
    found, price = explain(situation, objectives), price_from(arguments)
    cost = None
    if price is not None and found.tokens_per_second > 0:
        cost = price.per_million(found.tokens_per_second)
    return Plan(
        machine=profile.machine.device,
        model=profile.model,
        objectives=tuple(map(str, objectives)),
        limits=LimitsReport(
            max_num_seqs=limits.max_num_seqs,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            kv_cache_tokens=tokens,
            pinned=pinned,
        ),
        prompt=traffic.prompt,
        output=traffic.output,
        requests_per_second=traffic.rate,
        cost_per_million=cost,
        currency=None if price is None else price.currency,
        explanation=found,
    )


def _text(plan: Plan) -> str:
    lines = [f"{plan.model} on {plan.machine}", *explained(plan.explanation, plan.limits)]
    if plan.cost_per_million is not None:
        lines.append(f"{'cost':>12}  {plan.cost_per_million:.3g} {plan.currency} a million tokens")
    return "\n".join(lines)


def _limits(arguments: argparse.Namespace, profile: Profile) -> tuple[Limits, int, tuple[str, ...]]:
    """The limits that hold, the tokens of the KV cache, and which settings were given."""
    names = argparse.Namespace(**{name: getattr(arguments, name) for name in _SETTINGS})
    config, found = collect(EngineConfig, names), profile.scheduler
    if arguments.num_blocks is not None and config.kv_cache_memory is not None:
        raise InvalidRequest(
            "--num-blocks and --kv-cache-memory exclude each other", field="--num-blocks"
        )
    blocks = found.num_blocks if arguments.num_blocks is None else arguments.num_blocks
    tokens = blocks * found.block_size
    if config.kv_cache_memory is not None:
        tokens = int(config.kv_cache_memory // profile.sizes.kv_bytes_per_token)
    if tokens < 2:
        raise InvalidRequest("the KV cache needs room for two tokens", field="--num-blocks")
    given = {name: getattr(config, name) for name in _SETTINGS[:2]}
    limits = replace(
        found.limits,
        **{name: value for name, value in given.items() if value is not None},
        max_model_len=min(config.max_model_len or found.limits.max_model_len, tokens),
    )
    pinned = tuple(name for name in _SETTINGS if getattr(config, name) is not None)
    return limits, tokens, pinned


def _traffic(
    arguments: argparse.Namespace, limits: Limits, objectives: tuple[Objective, ...]
) -> Traffic:
    """Means of the lengths that fit the context, since an engine refuses the others."""
    rate = arguments.request_rate
    if rate is not None and not rate > 0:
        raise InvalidRequest(
            f"--request-rate must be above 0, not {rate:g}", field="--request-rate"
        )
    prompts = parse_lengths(arguments.input_len or INPUT_LEN, field="--input-len")
    outputs = parse_lengths(arguments.output_len or OUTPUT_LEN, field="--output-len")
    random = Random(0)  # noqa: S311
    drawn = ((prompts(random), outputs(random)) for _ in range(_DRAWS))
    fitting = [(prompt, out) for prompt, out in drawn if prompt + out <= limits.max_model_len]
    if not fitting:
        raise InvalidRequest(
            f"no such prompt and answer fit the context of {limits.max_model_len} tokens",
            field="--input-len",
        )
    generated = sum(out for _, out in fitting)
    context = sum(out * (prompt + out / 2) for prompt, out in fitting) / generated
    return Traffic(
        prompt=sum(prompt for prompt, _ in fitting) / len(fitting),
        output=generated / len(fitting),
        context=context,
        held=context,
        longest=max(prompt for prompt, _ in fitting),
        rate=None if rate is None or math.isinf(rate) else rate,
        pace=pace_of(objectives),
    )


def _server(arguments: argparse.Namespace) -> tuple[Address, str | None]:
    url = arguments.url or from_environment("--url") or URL
    key = arguments.api_key or from_environment("--api-key")
    return Address.parse(url, field="--url"), key.split(",")[0] if key else None


def fetched(address: Address, key: str | None) -> SloReport:
    """What a server says; raises `Unavailable` where it cannot be asked, `InvalidRequest` where it
    wants a key or is no server of this kind."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connection: http.client.HTTPConnection
    if address.secure:
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            address.host, address.port, timeout=TIMEOUT, context=context
        )
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT)
    try:
        connection.request("GET", f"{address.prefix}/slo", headers=headers)
        answer = connection.getresponse()
        status, body = answer.status, answer.read(_LARGEST)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"no server answers at {address.url}: {error}; start one with `headway serve`, or "
            "describe a machine with --device and --model",
            field="--url",
        ) from error
    finally:
        connection.close()
    return _read(status, body, address)


def _read(status: int, body: bytes, address: Address) -> SloReport:
    if status == 401:
        raise InvalidRequest(
            f"{address.url} wants a key: give --api-key, or set HEADWAY_API_KEY", field="--api-key"
        )
    if status == 503:
        raise Unavailable(f"{address.url} is starting, or has no engine: ask again later")
    try:
        if status == 200:
            return msgspec.json.decode(body, type=SloReport)
    except msgspec.DecodeError:
        pass
    raise InvalidRequest(
        f"{address.url}/slo answers with {status} and nothing of Headway's: is it another program, "
        "or another version?",
        field="--url",
    )
