"""Simulated fleets whose replicas have roles: who computes what, when, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.perf.sim.simulate import Setup, Simulated, roles_text, settings_of, simulate
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest
from headway.types.fleet import Role, parse_roles
from headway.types.objectives import parse_objectives
from tests.perf.sim.setups import UNEVEN, limits_of, profile_of, setup_of, workload_of

APART: tuple[Role, ...] = ("prefill", "decode")


def one(number: int, at: float = 0.0, *, prompt: int = 9, output: int = 4) -> WorkloadRequest:
    return WorkloadRequest(
        segments=(Segment(number, prompt),), output=output, cap=output + number % 2, at=at
    )


def fleet(roles: tuple[Role, ...] = APART, *, fixed: bool = True, rate: float = 1e9) -> Setup:
    setup = setup_of(replicas=len(roles), limits=limits_of(seqs=4))
    return replace(setup, roles=roles, fixed_roles=fixed, transfer_rate=rate)


def run(workload: Workload, setup: Setup, *, fast_forward: bool = True) -> Simulated:
    return simulate(workload, setup, residuals=False, fast_forward=fast_forward)


def test_a_prompt_is_computed_on_one_replica_and_its_answer_on_the_other() -> None:
    outcome = run(workload_of(one(1)), fleet())
    prompts, answers = outcome.replicas
    assert outcome.handovers.requests == 1
    assert (prompts.steps, prompts.computed_tokens) == (1, 9)
    # Of ten tokens whole blocks are loaded, and the rest is computed with the second token.
    assert answers.steps == 3
    assert answers.computed_tokens < 9
    assert outcome.records[0].output_tokens == 4


def test_copying_takes_its_time_before_the_second_token() -> None:
    setup = fleet()
    near = run(workload_of(one(1)), replace(setup, transfer_rate=1e12))
    far = run(workload_of(one(1)), replace(setup, transfer_rate=1.0))
    assert far.records[0].ttft == near.records[0].ttft
    assert far.handovers.seconds > 1.0
    waited = (far.records[0].latency or 0.0) - (near.records[0].latency or 0.0)
    assert waited == pytest.approx(far.handovers.seconds, abs=1e-6)


def test_an_answer_of_one_token_is_not_handed_over() -> None:
    outcome = run(workload_of(one(2, output=1)), fleet())
    assert outcome.handovers.requests == 0
    assert outcome.replicas[1].steps == 0


def test_without_a_replica_for_prompts_nothing_is_handed_over() -> None:
    workload = workload_of(*(one(number, number / 2) for number in range(6)))
    outcome = run(workload, fleet(("decode", "both")))
    assert outcome.handovers.requests == 0
    assert outcome.replicas[0].steps == 0
    both = fleet(("both", "both"))
    assert run(workload, both) == run(workload, replace(both, roles=(), fixed_roles=False))


def test_settings_name_the_roles_as_they_are_given() -> None:
    roles = parse_roles("prefill:2,decode,both:3")
    assert roles_text(roles) == "prefill:2,decode,both:3"
    assert settings_of(fleet(roles))["roles"] == "prefill:2,decode,both:3"
    assert "roles" not in settings_of(setup_of(replicas=2))


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.integers(0, 24), st.integers(1, 20), st.integers(1, 9)), max_size=14
    ),
    roles=st.sampled_from([APART, ("prefill", "prefill", "decode"), ("prefill", "decode", "both")]),
    fixed=st.booleans(),
    rate=st.sampled_from([8.0, 64.0, 1e9]),
)
def test_single_steps_and_fast_forward_are_the_same(
    parts: list[tuple[int, int, int]], roles: tuple[Role, ...], fixed: bool, rate: float
) -> None:
    times = sorted(at for at, _, _ in parts)
    workload = workload_of(
        *(
            one(number, at / 4, prompt=prompt, output=output)
            for number, (at, (_, prompt, output)) in enumerate(zip(times, parts, strict=True))
        )
    )
    setup = replace(fleet(roles, fixed=fixed, rate=rate), profile=profile_of(UNEVEN))
    fast, slow = (run(workload, setup, fast_forward=each) for each in (True, False))
    assert fast.records == slow.records
    assert fast.gaps == slow.gaps
    assert fast.handovers == slow.handovers
    assert [record.output_tokens for record in fast.records] == [part[2] for part in parts]


def test_all_that_is_asked_is_generated_whatever_the_roles() -> None:
    workload = workload_of(*(one(number, number / 8, output=6) for number in range(30)))
    objectives = parse_objectives("ttft=4s,tpot=2s")
    for fixed in (True, False):
        outcome = simulate(workload, fleet(fixed=fixed), objectives=objectives, residuals=False)
        assert sum(record.output_tokens for record in outcome.records) == 180
