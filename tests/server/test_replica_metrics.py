"""Metrics of each engine of several, which add nothing to the sums."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headway.config import ServerConfig
from headway.server.replica_metrics import ReplicaMetrics
from tests.server.conftest import Running, serving
from tests.server.fakes import FakeFleet

Samples = dict[tuple[str, str], float]


def samples(text: str, label: str = "replica") -> Samples:
    """By name and label, of those that have this label."""
    return {
        (sample.name, sample.labels[label]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if label in sample.labels
    }


def collected(fleet: FakeFleet, label: str = "replica") -> Samples:
    registry = CollectorRegistry()
    registry.register(ReplicaMetrics(fleet, "m"))
    return samples(generate_latest(registry).decode(), label)


def test_each_replica_has_its_own() -> None:
    found = collected(FakeFleet(3))
    named = {
        name.removeprefix("headway:replica_"): number
        for (name, one), number in found.items()
        if one == "2"
    }
    named.pop("state")
    assert named == {
        "live_requests": 4,
        "requests_running": 2,
        "requests_waiting": 1,
        "kv_cache_usage": 0.5,
        "cores": 1,
        "requests_total": 6,
        "handed_over_requests_total": 0,
        "steps_total": 12,
        "computed_tokens_total": 0,
        "busy_seconds_total": 0,
        "restarts_total": 2,
    }


def test_one_state_is_1_and_the_others_are_0() -> None:
    fleet = FakeFleet(2)
    fleet.become(1, "failed")
    registry = CollectorRegistry()
    registry.register(ReplicaMetrics(fleet, "m"))
    states = {
        (sample.labels["replica"], sample.labels["state"]): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if "state" in sample.labels
    }
    assert {each for each, value in states.items() if value} == {("0", "ready"), ("1", "failed")}
    assert len(states) == 10


def test_a_replica_that_is_gone_has_none() -> None:
    fleet = FakeFleet(3)
    assert {replica for _, replica in collected(fleet)} == {"0", "1", "2"}
    del fleet.statuses[1]
    assert {replica for _, replica in collected(fleet)} == {"0", "2"}


def metrics_of(server: Running) -> str:
    with server.http() as http:
        return http.get("/metrics").text


def test_they_are_there_beside_the_sums_where_there_are_several() -> None:
    with serving(config=ServerConfig(port=0, replicas=2)) as server:
        text = metrics_of(server)
    found = samples(text)
    assert ("headway:replica_requests_running", "1") in found
    assert not any(name.startswith("vllm:") for name, _ in found)
    assert 'vllm:num_requests_running{model_name="alphabet"} 0.0' in text


def test_one_engine_has_the_sums_alone(server: Running) -> None:
    assert "replica" not in metrics_of(server)
