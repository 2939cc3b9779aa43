"""What an engine tells of its batches: once a second, and as they are."""

from __future__ import annotations

import pytest

from headway.client.restarts import MonotonicStats
from headway.engine.loop import Engine
from headway.engine.pacing import INTERVAL, Pacing, learned_model
from headway.steptime.margins import BoundedModel
from headway.steptime.model import StepTimeModel
from headway.steptime.online import OnlineStepTimes
from headway.steptime.shape import shape_of
from headway.types import Slice, StepPlan
from headway.wire import EngineStats, Events, PacingStats, pack, read_from_engine
from tests.scheduling.harness import EngineHarness, make_harness, request_of
from tests.steptime.world import MACHINE, SIZES, decodes, model, part

TIMES = OnlineStepTimes(SIZES, MACHINE)
"""Which learns nothing here."""


def paced_harness(pause: float = 1.0) -> EngineHarness:
    harness = make_harness()
    harness.pause = pause
    harness.engine = Engine(
        scheduler=harness.scheduler,
        runner=harness.runner,
        clock=harness.clock,
        pacing=Pacing(harness.scheduler.traffic, TIMES),
    )
    return harness


def told(harness: EngineHarness) -> PacingStats | None:
    return harness.engine.stats().pacing


def test_a_step_is_told_with_its_prediction() -> None:
    harness = paced_harness()
    harness.add(request_of("a", prompt=(1, 2, 3), max_tokens=4))
    harness.step()
    found = told(harness)
    assert found is not None
    shape = shape_of(harness.runner.plans[-1].slices)
    assert (found.at, found.sequences, found.tokens, found.traffic) == (0.0, 1, 3, None)
    assert found.predicted_seconds == TIMES.predict(shape)
    assert found.bound_seconds == TIMES.bound(shape)
    assert found.model == learned_model(TIMES)


def test_sequences_with_drafts_are_counted() -> None:
    pacing = Pacing(make_harness().scheduler.traffic)
    slices = [
        Slice(seq=n, start=8, tokens=range(max(1, outputs)), blocks=(n,), outputs=outputs)
        for n, outputs in enumerate((1, 3, 0, 2))
    ]
    pacing.on_plan(StepPlan(step=1, slices=slices), 0.0)
    news = pacing.news()
    assert news is not None
    assert (news.sequences, news.drafting, news.tokens) == (4, 2, 7)


def test_a_model_is_told_as_it_predicts() -> None:
    times = OnlineStepTimes(SIZES, MACHINE)
    assert (learned_model(times).status, learned_model(times).error) == ("prior", None)
    truth = model()
    for context in range(10, 400):
        shape = decodes(*[context] * (context % 7 + 1))
        times.learn(shape, truth.predict(shape))
    told = learned_model(times)
    assert (told.status, told.steps) == ("learned", 390)
    assert 0 < (told.error or 0) < 0.5
    client = BoundedModel(StepTimeModel(SIZES, MACHINE, told.coefficients), told.margins)
    for shape in (decodes(50, 60), shape_of([part(0, 9)]), shape_of([part(0, 9), part(9, 1)])):
        assert client.predict(shape) == pytest.approx(times.predict(shape))
        assert client.bound(shape) == pytest.approx(times.bound(shape))


def test_a_model_that_is_off_is_told_so() -> None:
    times = OnlineStepTimes(SIZES, MACHINE)
    for number in range(60):
        times.learn(decodes(50), 0.01 if number % 2 else 0.1)
    assert not times.reliable
    told = learned_model(times)
    assert (told.status, told.off) == ("fallback", ("decode",))


def test_of_a_rare_kind_of_step_only_that_is_told() -> None:
    times, truth = OnlineStepTimes(SIZES, MACHINE), model()
    for number in range(400):
        shape = decodes(50 + number)
        times.learn(shape, truth.predict(shape))
        if number % 40 == 0:
            prompt = shape_of([part(0, 9)])
            times.learn(prompt, truth.predict(prompt) * (2.5 if number % 80 else 0.25))
    told = learned_model(times)
    assert (told.status, told.off) == ("learned", ("prefill",))


def test_it_is_told_once_and_at_most_once_a_second() -> None:
    harness = paced_harness(pause=0.3 * INTERVAL)
    harness.add(request_of("a", max_tokens=20))
    news = []
    for _ in range(10):
        harness.step()
        news.append(told(harness))
        assert told(harness) is None
    assert [each is not None for each in news] == [True, *[False] * 3] * 2 + [True, False]


def test_traffic_is_told_once_a_request_has_ended() -> None:
    harness = paced_harness()
    harness.add(request_of("a", max_tokens=2))
    harness.drain()
    harness.add(request_of("b", max_tokens=2))
    harness.step()
    found = told(harness)
    assert found is not None
    assert found.traffic is not None
    assert (found.traffic.prompt, found.traffic.output) == (3, 2)


def test_without_a_model_there_is_traffic_alone() -> None:
    harness = make_harness()
    pacing = Pacing(harness.scheduler.traffic)
    harness.engine = Engine(
        scheduler=harness.scheduler, runner=harness.runner, clock=harness.clock, pacing=pacing
    )
    harness.add(request_of("a", max_tokens=2))
    harness.step()
    found = told(harness)
    assert found is not None
    assert (found.model, found.predicted_seconds, found.bound_seconds) == (None, None, None)


def test_it_survives_the_wire() -> None:
    harness = paced_harness()
    harness.add(request_of("a", max_tokens=1))
    harness.drain()
    harness.add(request_of("b", max_tokens=2))
    harness.step()
    stats = harness.engine.stats()
    assert stats.pacing is not None
    assert stats.pacing.traffic is not None, "whose pace is infinite: nobody asked for one"
    message = Events(events=[], stats=stats)
    assert read_from_engine(pack(message)[4:]) == message


def test_the_client_keeps_what_was_told_until_the_engine_dies() -> None:
    seen = MonotonicStats()
    pacing = PacingStats(at=1.0)
    seen.update(EngineStats(step=1, pacing=pacing))
    assert seen.update(EngineStats(step=2)).pacing == pacing
    other = PacingStats(at=2.0)
    assert seen.update(EngineStats(step=3, pacing=other)).pacing == other
    assert seen.engine_died().pacing is None
    assert seen.update(EngineStats(step=1)).pacing is None
