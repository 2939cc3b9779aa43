"""The Live view's modules under Node: they rebuild the batch, and say what is to be said of it."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from headway.server.metrics import Metrics
from headway.server.page.batch import QueueRow, RequestRow, SharedBatch
from headway.server.page.figures import FigureMaker
from headway.server.page.news import LiveSnapshot, _event, _frame
from headway.server.slo import Explainer
from headway.steptime.explanation import explain
from headway.types.batch_news import BatchNews
from headway.types.objectives import pace_of, parse_objectives
from tests.server.page.batches import end, news, runs, sequence
from tests.server.page.node import run_script
from tests.server.test_slo import busy_engine, explainer_of, pacing_of


def event(data: bytes) -> dict[str, Any]:
    name, body = data.decode().removesuffix("\n\n").split("\n")
    return {
        "event": name.removeprefix("event: "),
        "data": json.loads(body.removeprefix("data: ")),
    }


def snapshot(batch: SharedBatch, number: int, at: float, since: float = 0.0) -> bytes:
    told = LiveSnapshot(
        since=since,
        number=number,
        at=at,
        model="m",
        rows=batch.snapshot(""),
        gone=list(batch.lately_gone),
        queue=batch.queue,
        queues=list(batch.queues.values()),
        figures=None,
    )
    return _event("snapshot", told)


def frames(batch: SharedBatch, *all_news: BatchNews, number: int = 0) -> list[dict[str, Any]]:
    made = [event(snapshot(batch, number, 0.0))]
    for each in all_news:
        number += 1
        batch.update(each)
        made.append(event(_frame(number, each.at, batch.delta(), None, None, "")))
    return made


Lives = dict[int, tuple[int, str, float]]
"""By number: how many requests of it have ended, what the present one does, and since when."""


def random_news(rng: random.Random, at: float, lives: Lives) -> BatchNews:
    ended = []
    for number in rng.sample(range(12), 4):
        life, state, since = lives.get(number, (0, "gone", 0.0))
        if state == "run" and rng.random() < 0.5:
            ended.append(end(runs(f"r{number}-{life}", scheduled_at=since), at=at))
            lives[number] = (life + 1, "gone", at)
        elif (new := rng.choice(["run", "wait"])) != state:
            lives[number] = (life, new, at)
    named = {f"r{number}-{life}": (state, since) for number, (life, state, since) in lives.items()}
    return news(
        *(
            runs(name, generated=rng.randrange(9), scheduled_at=since, first_token_at=since + 0.5)
            for name, (state, since) in named.items()
            if state == "run"
        ),
        waiting=[sequence(name) for name, (state, _) in named.items() if state == "wait"],
        ended=ended,
        at=at,
    )


def test_the_page_knows_what_the_server_shows(tmp_path: Path) -> None:
    rng = random.Random(5)
    batch, lives = SharedBatch(), Lives()
    told = frames(batch, *(random_news(rng, float(at), lives) for at in range(1, 80)))
    found = run_script(tmp_path, "live_state.mjs", told)
    assert found["seen"] == []
    rows = msgspec.convert(found["rows"], list[RequestRow])
    assert {row.key: row for row in rows} == batch.shown
    assert msgspec.convert(found["queue"], QueueRow) == batch.queue
    # No two bars are in one slot at one time.
    bars = sorted(found["bars"], key=lambda bar: (bar["slot"], bar["begin"]))
    for one, two in pairwise(bars):
        assert one["slot"] != two["slot"] or one["end"] <= two["begin"]


def test_each_engine_has_a_group_of_slots(tmp_path: Path) -> None:
    batch = SharedBatch()
    told = frames(
        batch,
        news(runs("a"), runs("b"), at=4.0),
        news(runs("c"), replica=2, at=4.5),
        news(runs("c"), runs("b"), replica=2, at=5.0),
        news(runs("a"), at=5.5),
    )
    found = run_script(tmp_path, "live_state.mjs", told)
    assert msgspec.convert(found["queues"], list[QueueRow]) == list(batch.queues.values())
    groups = {group["name"]: group for group in found["groups"]}
    assert list(groups) == ["replica 0", "replica 2"]
    assert [group["slots"] for group in groups.values()] == [8, 8]
    # The request that was moved has a bar with the one, and goes on with the other.
    keys = {row.name: row.key for row in batch.shown.values()}
    assert set(groups["replica 0"]["bars"]) == {keys["a"], keys["b"]}
    assert set(groups["replica 2"]["bars"]) == {keys["c"], keys["b"]}


def test_one_engine_has_one_group_without_a_name(tmp_path: Path) -> None:
    told = frames(SharedBatch(), news(runs("a"), at=4.0))
    ((group,), queues) = (
        run_script(tmp_path, "live_state.mjs", told)[key] for key in ("groups", "queues")
    )
    assert (group["name"], group["slots"], group["bars"], queues) == ("", 8, [1], [])


def test_a_missing_frame_is_noticed(tmp_path: Path) -> None:
    told = frames(SharedBatch(), news(runs("a")), news(runs("a"), runs("b")), news(runs("b")))
    del told[2]
    assert run_script(tmp_path, "live_state.mjs", told)["seen"] == ["missing"]


def test_another_collection_of_news_begins_anew(tmp_path: Path) -> None:
    told = frames(SharedBatch(), news(runs("a"), at=4.0), news(runs("a"), runs("b"), at=5.0))
    # The same number, but another request has it.
    other = SharedBatch()
    other.update(news(waiting=[sequence("c")]))
    other.delta()
    found = run_script(
        tmp_path, "live_state.mjs", [*told, event(snapshot(other, 0, 9.0, since=8.0))]
    )
    assert (found["phases"], found["bars"], found["past"]) == ({"1": "waiting"}, [], [])


def test_a_snapshot_instead_of_missed_frames_keeps_the_past(tmp_path: Path) -> None:
    batch = SharedBatch()
    told = frames(batch, news(runs("a"), runs("b"), at=4.0))
    batch.update(news(runs("b"), ended=[end(runs("a"), at=5.0)], at=5.0))
    batch.delta()
    found = run_script(tmp_path, "live_state.mjs", [*told, event(snapshot(batch, 7, 5.5))])
    assert found["past"] == [[1, 5.0, "stop", 5]]
    assert len(found["bars"]) == 2


def test_bars_have_a_prefill_a_decode_and_a_cached_part(tmp_path: Path) -> None:
    prefill = runs("a", computed=10, generated=0, first_token_at=None, cached=5)
    told = frames(
        SharedBatch(),
        news(waiting=[sequence("a")], at=1.5),
        news(prefill, at=2.2),
        news(msgspec.structs.replace(prefill, computed=15), at=2.6),
        news(runs("a", cached=5), at=4.0),
        news(ended=[end(runs("a", cached=5, generated=9), at=6.0)], at=6.1),
    )
    (bar,) = run_script(tmp_path, "live_state.mjs", told)["bars"]
    assert (bar["slot"], bar["begin"], bar["first"], bar["end"]) == (0, 2.0, 3.0, 6.0)
    assert (bar["cached"], bar["open"]) == (0.25, False)
    assert bar["marks"] == [2.2, 2.6]


def test_who_is_set_back_has_two_bars(tmp_path: Path) -> None:
    told = frames(
        SharedBatch(),
        news(runs("a"), at=4.0),
        news(waiting=[sequence("a", preemptions=1, scheduled_at=2.0)], at=5.0),
        news(runs("a", preemptions=1), at=7.0),
        news(runs("a", preemptions=1, generated=6), at=8.0),
    )
    bars = run_script(tmp_path, "live_state.mjs", told)["bars"]
    assert [(bar["begin"], bar["end"]) for bar in bars] == [(2.0, 5.0), (7.0, 8.0)]


def told_of(*all_news: BatchNews, policy: str = "continuous", **more: Any) -> dict[str, Any]:
    """A snapshot with figures, as the script of sentences takes it."""
    batch = SharedBatch()
    for each in all_news:
        batch.update(each)
    batch.delta()
    engine = busy_engine(pacing_of())
    metrics = Metrics("m")
    metrics.attach(engine, {})
    explainer = Explainer(engine)
    figures = json.loads(msgspec.json.encode(FigureMaker(engine, metrics, explainer).make(1.0)))
    figures |= {"policy": policy} | more.pop("figures", {})
    given = event(snapshot(batch, 0, 10.0))["data"] | {"figures": figures}
    return {"snapshot": given, **more}


def said(folder: Path, *cases: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run_script(folder, "live_words.mjs", list(cases))
    return found


def test_why_is_my_request_waiting(tmp_path: Path) -> None:
    full = [runs(f"r{n}", max_tokens=9 + n, generated=4) for n in range(8)]
    waits = [sequence("mine"), sequence("next", arrival=7.0)]
    late = sequence("late", late=True)
    back = sequence("back", preemptions=2, scheduled_at=2.0)
    prefill = runs("p", computed=5, generated=0, first_token_at=None)
    slot, memory, turn, static, paced, ended, others = said(
        tmp_path,
        told_of(news(*full, waiting=waits)),
        told_of(news(runs("a"), waiting=[late, back], waits_for="memory")),
        told_of(news(prefill, waiting=waits, waits_for="policy")),
        told_of(news(runs("a"), waiting=waits, waits_for="policy"), policy="static"),
        told_of(news(runs("a"), waiting=waits, waits_for="policy"), policy="paced"),
        told_of(news(runs("a"), waiting=waits, waits_for="step")),
        told_of(news()),
    )
    assert slot["why"]["mine"] == (
        "Waits since 9 s: 8 of 8 slots are taken; one is free after 5 more tokens at the latest."
    )
    assert slot["why"]["next"].endswith(" 1 request is before it.")
    assert slot["queue"].startswith("2 requests wait: 8 of 8 slots are taken")
    assert "cannot be on time any more" in memory["why"]["late"]
    assert "memory is short" in memory["why"]["back"]
    assert memory["why"]["back"].endswith("It was set back 2 times to make room.")
    assert "other prompts are computed first, 15 tokens to go" in turn["why"]["mine"]
    assert "held back by the policy (static): the next batch begins" in static["why"]["mine"]
    assert "longer than the objectives allow" in paced["why"]["mine"]
    assert ended["queue"].endswith(
        "others have just ended, and the next step may take their place."
    )
    assert others["queue"] == "Nobody waits."


def test_what_a_request_does_is_said_from_its_slot_on(tmp_path: Path) -> None:
    shares = runs("shares", computed=0, generated=0, first_token_at=None, deferred=True)
    prefill = runs("prefill", computed=12, generated=0, first_token_at=None, cached=8)
    (found,) = said(tmp_path, told_of(news(shares, prefill, runs("answers"))))
    assert "another request computes the prefix" in found["why"]["shares"]
    assert found["why"]["prefill"] == (
        "Computes its prompt: 12 of 20 tokens, 8 of them from the cache."
    )
    assert found["why"]["answers"].startswith("Answers: token 5 of at most 10, ")
    assert "(50 ms asked for)" in found["why"]["answers"]


def test_which_slots_idle(tmp_path: Path) -> None:
    some, none, held = said(
        tmp_path,
        told_of(news(runs("a"), runs("b"), slots=4)),
        told_of(news(runs("a"), slots=1)),
        told_of(news(runs("a"), waiting=[sequence("b")], waits_for="policy"), policy="static"),
    )
    assert some["idle"] == "2 of 4 slots idle (3, 4): nobody waits for them."
    assert none["idle"] == "No slot is idle: all 1 are taken."
    assert held["idle"].startswith("7 of 8 slots idle (2, 3, 4, 5, 6, 7 …): though 1 request waits")
    assert some["summary"].startswith("2 of 4 slots taken, 0 waiting")


def test_what_binds(tmp_path: Path) -> None:
    base = told_of(news())["snapshot"]["figures"]["choice"]
    factors = ("arrivals", "objective", "memory", "compute", "limit")
    cases = [
        told_of(news(), figures={"choice": base | {"limiting_factor": each, "width": 6.0}})
        for each in factors
    ]
    unknown = told_of(news(), figures={"choice": None})
    *found, nothing = (each["binds"] for each in said(tmp_path, *cases, unknown))
    words = ("Arrivals bind", "The objective binds", "Memory binds", "Compute binds", "The limit")
    assert [text.startswith(word) for text, word in zip(found, words, strict=True)] == [True] * 5
    assert "not known before requests have been served" in nothing


def test_why_another_factor_binds_is_said_while_it_does(tmp_path: Path) -> None:
    base = told_of(news())["snapshot"]["figures"]["choice"] | {"limiting_factor": "compute"}
    change = {
        "before": "arrivals",
        "after": "compute",
        "because": "prompt tokens went from 9 to 90",
    }
    cases = [
        told_of(news(), figures={"choice": base, "change": each})
        for each in (
            change | {"at": 4.0},
            change | {"at": 4.0, "because": None},
            change | {"at": 4.0, "after": "memory"},
            change | {"at": 4.0, "before": None},
            None,
        )
    ]
    why, bare, *others = (each["change"] for each in said(tmp_path, *cases))
    assert why == "Until 6 s ago arrivals bound. Then prompt tokens went from 9 to 90."
    assert bare == "Until 6 s ago arrivals bound."
    assert others == ["", "", ""]


def told_of_two(*all_news: BatchNews, state: str = "ready") -> dict[str, Any]:
    replicas = [
        {
            "id": each,
            "state": "ready" if each == 0 else state,
            "slots": 8,
            "running": 0,
            "waiting": 0,
        }
        for each in (0, 1)
    ]
    return told_of(*all_news, figures={"replicas": replicas})


def test_of_several_engines_each_has_its_own_reasons(tmp_path: Path) -> None:
    full = [runs(f"r{n}", max_tokens=9 + n, generated=4) for n in range(8)]
    waits = [sequence("mine"), sequence("next")]
    two, lost = said(
        tmp_path,
        told_of_two(news(*full, waiting=waits), news(runs("other", max_tokens=6), replica=1)),
        told_of_two(news(*full), news(runs("other"), replica=1), state="restarting"),
    )
    # Of the other engine's slots nothing is said: the request does not wait for them.
    slots = "8 of 8 slots of replica 0 are taken; one is free after 5 more tokens at the latest."
    assert two["why"]["mine"] == f"Waits since 9 s: {slots}"
    assert two["why"]["next"].endswith(" 1 request is before it.")
    assert two["queue"] == f"2 requests wait: {slots}"
    assert two["idle"].startswith("7 of 16 slots idle (7 of replica 1): though 2 requests wait: ")
    assert two["replicas"] == "All 2 replicas serve."
    assert lost["replicas"] == "1 of 2 replicas serve; replica 1 is restarting."
    assert two["summary"].startswith("9 of 16 slots taken, 2 waiting")


def test_of_one_engine_nothing_is_said_of_replicas(tmp_path: Path) -> None:
    (found,) = said(tmp_path, told_of(news(runs("a"))))
    assert found["replicas"] == ""


def test_what_does_a_token_cost(tmp_path: Path) -> None:
    figures = {"generated_per_second": 100.0}
    priced, free, idle = (
        each["cost"]
        for each in said(
            tmp_path,
            told_of(news(), price=3.6, figures=figures),
            told_of(news(), figures=figures),
            told_of(news(), price=3.6, figures={"generated_per_second": 0.0, "choice": None}),
        )
    )
    assert priced.startswith("A million tokens cost 10 at the present 100 tokens/s; ")
    assert "with a full batch" in priced
    assert free == "Give what the machine costs an hour to see what a token costs."
    assert "not known while nothing is generated" in idle


def test_what_happens_if_i_ask_for_another_objective(tmp_path: Path) -> None:
    explainer = explainer_of(pacing_of())

    def answered(text: str) -> dict[str, Any]:
        asked = parse_objectives(text)
        situation = explainer.situation(pace_of(asked))
        assert situation is not None
        report = {"explanation": explain(situation, asked)}
        return told_of(news(), report=json.loads(msgspec.json.encode(report)), asked=text)

    held, unheld, unknown = (
        each["whatIf"]
        for each in said(
            tmp_path,
            answered("tpot=90ms"),
            answered("tpot=30ms"),
            told_of(news(), report={"explanation": None}, asked="tpot=30ms"),
        )
    )
    assert held.startswith("With tpot=90ms: ")
    assert "answers at once" in held or "one answer at a time" in held
    assert "against now" in held
    assert unheld.startswith("tpot=30ms cannot be held here; the nearest that can is tpot=")
    assert "not known before requests have been served" in unknown


def test_a_group_says_what_its_engine_is_for(tmp_path: Path) -> None:
    told = frames(SharedBatch(), news(runs("a"), at=4.0), news(runs("b"), replica=1, at=4.5))
    figures = {
        "replicas": [
            {"id": 0, "state": "ready", "role": "prefill", "slots": 8, "running": 1},
            {"id": 1, "state": "restarting", "role": "both", "slots": 8, "running": 1},
        ]
    }
    told[-1]["data"] |= {"figures": figures}
    found = run_script(tmp_path, "live_state.mjs", told)
    names = [group["name"] for group in found["groups"]]
    assert names == ["replica 0 (prefill)", "replica 1: restarting"]
