"""What a report says of itself must follow from its figures, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

from headway.perf.report.headline import headline, leader_of, times
from headway.perf.report.run import Kind, Report, Run
from tests.perf.report.fabricated import report


def _run(system: str, throughput: float, group: str = "g", kind: Kind = "engine") -> Run:
    summary = {"output_throughput": throughput, "p50_e2el_ms": 1e5 / throughput}
    return Run(system=system, group=group, kind=kind, summary=summary)


def _report(*runs: Run) -> Report:
    return Report(title="t", about={}, runs=runs)


def test_the_sentence_names_both_ends_and_the_factor() -> None:
    found = headline(_report(_run("static", 100.0), _run("continuous", 230.0)))
    assert found is not None
    assert found.sentence.startswith("Continuous gives 2.3")
    assert found.sentence.endswith(" the tokens per second of static")
    assert [name for _, name in found.pieces if name] == ["continuous", "static"]
    first, second = found.changes
    assert (first.label, first.detail) == ("the tokens per second", "100 → 230")
    assert second.label == "shorter median latency"
    assert second.figure == first.figure


def test_where_the_first_is_the_fastest_it_says_so() -> None:
    found = headline(_report(_run("static", 100.0), _run("continuous", 50.0)))
    assert found is not None
    assert found.sentence == "Static is the fastest of 2: 100 tokens a second"
    assert not found.changes


def test_no_gain_is_called_none() -> None:
    found = headline(_report(_run("static", 100.0), _run("continuous", 101.0)))
    assert found is not None
    assert found.sentence == "Continuous is no faster than static"


def test_where_all_keep_up_the_soonest_answer_leads() -> None:
    def loaded(system: str, throughput: float, latency: float) -> Run:
        summary = {"output_throughput": throughput, "p50_e2el_ms": latency}
        return Run(system=system, group="g", rate=1.0, summary=summary, idle_share=0.9)

    found = headline(_report(loaded("static", 101.0, 900.0), loaded("continuous", 100.0, 300.0)))
    assert found is not None
    assert found.leader == "continuous"
    assert found.sentence.startswith("Continuous has a 3.0")
    assert found.sentence.endswith("shorter median latency than static")
    # Slots idle for lack of requests are no merit and no fault.
    assert "idle slots" not in [change.label for change in found.changes]


def test_a_longer_latency_is_called_longer() -> None:
    slow = replace(_run("wide", 300.0), summary={"output_throughput": 300.0, "p50_e2el_ms": 2000.0})
    found = headline(_report(_run("narrow", 100.0), slow))
    assert found is not None
    assert found.changes[1].label == "longer median latency"
    assert found.changes[1].figure.startswith("2.0")


def test_one_run_alone() -> None:
    found = headline(_report(_run("only", 12.0)))
    assert found is not None
    assert found.sentence == "Only gives 12.0 tokens a second"


def test_nothing_to_say() -> None:
    assert headline(_report()) is None
    assert headline(_report(Run(system="x", group="g"))) is None


def test_an_external_system_never_leads_where_there_is_one_of_ours() -> None:
    runs = [_run("theirs", 500.0, kind="external"), _run("ours", 100.0)]
    leader = leader_of(runs)
    assert leader is not None
    assert leader.system == "ours"
    alone = leader_of(runs[:1])
    assert alone is not None
    assert alone.system == "theirs"


def test_the_group_with_the_widest_gain_leads_and_loads_come_last() -> None:
    found = headline(
        _report(
            _run("a", 100.0, "one"),
            _run("b", 200.0, "one"),
            _run("a", 100.0, "two"),
            _run("b", 400.0, "two"),
            replace(_run("a", 10.0, "rate"), rate=1.0),
            replace(_run("b", 100.0, "rate"), rate=1.0),
        )
    )
    assert found is not None
    assert found.group == "two"


def test_idle_slots_are_compared_with_the_worst() -> None:
    found = headline(report())
    assert found is not None
    idle = next(change for change in found.changes if change.label == "idle slots")
    assert idle.detail.startswith("transformers, padded: ")


def test_where_the_first_is_external_our_own_are_compared_too() -> None:
    ours = [_run("static", 50.0), _run("continuous", 200.0)]
    found = headline(_report(_run("theirs", 10.0, kind="external"), *ours))
    assert found is not None
    ((name, gain),) = found.beside
    assert name == "static"
    assert gain.startswith("4.0")
    among_ours = headline(_report(*ours))
    assert among_ours is not None
    assert among_ours.beside == ()


def test_times_has_two_digits() -> None:
    assert times(1.44).startswith("1.4")
    assert times(9.96).startswith("10")
    assert times(23.2).startswith("23")
