"""Drafts of a simulation: as often right as was said, and the same however many are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.sim.drafts import SimulatedDrafts
from headway.perf.sim.requests import SimulatedRequest, request_of, token_of
from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.perf.sim.simulate import Setup, settings_of, simulate
from headway.scheduling.drafts import Wanted
from headway.types.speculation import SpeculativeConfig
from tests.perf.sim.setups import request_of as spec_of
from tests.perf.sim.setups import workload_of


def rights(drafts: SimulatedDrafts, index: int, known: int, most: int) -> int:
    """How many drafts are right, of a request that has so many tokens."""
    request = request_of(
        SimulatedRequest(index=index, spec=spec_of(), arrival=0.0, prompt_tokens=3)
    )
    (guess,) = drafts.propose([Wanted(request, range(known), most)])
    assert len(guess.tokens) == most
    right = [token == token_of(index) for token in guess.tokens]
    return right.index(False) if False in right else most


@given(
    acceptance=st.floats(0, 1),
    seed=st.integers(0, 9),
    index=st.integers(0, 99),
    known=st.integers(1, 10_000),
)
def test_what_is_right_does_not_depend_on_how_many_are_asked_for(
    acceptance: float, seed: int, index: int, known: int
) -> None:
    drafts = SimulatedDrafts(acceptance, seed)
    most = rights(drafts, index, known, 16)
    assert [rights(drafts, index, known, n) for n in range(1, 17)] == [
        min(n, most) for n in range(1, 17)
    ]
    if most:  # with one token more, the drafts are the same ones
        assert rights(drafts, index, known + 1, 15) == most - 1


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.9, 1.0])
def test_drafts_are_right_as_often_as_was_said(acceptance: float) -> None:
    drafts = SimulatedDrafts(acceptance, 7)
    found = [rights(drafts, n % 50, 1 + n, 1) for n in range(5000)]
    assert sum(found) / len(found) == pytest.approx(acceptance, abs=0.02)
    assert drafts.cost(8) == drafts.seconds == 0.0


def h200(acceptance: float | None) -> Setup:
    """A machine on which one answer alone has much room for drafts."""
    profile = roofline_profile(
        known_device("h200"),
        known_model("llama-3.1-8b"),
        dtype="bfloat16",
        kv_cache_dtype="bfloat16",
    )
    scheduler = replace(profile.scheduler, speculation=SpeculativeConfig(method="ngram"))
    return Setup(profile=profile, scheduler=scheduler, acceptance=acceptance)


def test_a_simulation_counts_drafts_and_is_no_slower_for_them() -> None:
    workload = workload_of(spec_of(prompt=20, output=300))
    plain = simulate(workload, h200(None))
    assert plain.records[0].draft_tokens == plain.records[0].accepted_tokens == 0
    right = simulate(workload, h200(1.0))
    (record,) = right.records
    assert record.output_tokens == 300
    assert record.draft_tokens == record.accepted_tokens > 200
    assert right.duration < 0.5 * plain.duration
    wrong = simulate(workload, h200(0.0))
    assert wrong.records[0].accepted_tokens == 0
    assert wrong.duration < 1.02 * plain.duration
    assert simulate(workload, h200(0.7), seed=3) == simulate(workload, h200(0.7), seed=3)
    assert settings_of(h200(0.7))["acceptance"] == 0.7
    assert "acceptance" not in settings_of(h200(None))
