"""An engine with the fake runner and a clock that ticks a second a step, and what it has said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from headway.engine.loop import Engine
from headway.scheduling.admission import LengthEstimate
from headway.scheduling.block_pool import BlockPool, BlockStore, SealedBlocks
from headway.scheduling.drafts import Proposer
from headway.scheduling.policy import Policy
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.speculation.speculation import AllDrafts, Speculation
from headway.scheduling.stats import Idle
from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape
from headway.types import Limits, NewSequence, Request, ResolvedSampling, TokenEvent
from headway.types.objectives import Objective
from tests.scheduling.fake_runner import FakeRunner
from tests.scheduling.toy_policies import policy_of

MOST_STEPS = 5000


@dataclass
class StepClock:
    """Time that moves only when told to."""

    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds


@dataclass
class EngineHarness:
    """Everything between a request and its events, in one process and one thread."""

    engine: Engine
    scheduler: Scheduler
    runner: FakeRunner
    clock: StepClock
    pause: float = 1.0
    """Seconds between two steps."""
    steps: int = 0
    """Made or idle; so many that no test needs them are an error, rather than a test that hangs."""
    tokens: dict[str, list[int]] = field(default_factory=dict)
    ends: dict[str, TokenEvent] = field(default_factory=dict)
    firsts: dict[str, TokenEvent] = field(default_factory=dict)
    preemptions: dict[str, int] = field(default_factory=dict)
    """As the events tell."""

    def hear(self, events: list[TokenEvent]) -> None:
        for event in events:
            assert event.id not in self.ends, "an event after the end"
            self.firsts.setdefault(event.id, event)
            self.tokens.setdefault(event.id, []).extend(event.tokens)
            told = self.preemptions.get(event.id, 0)
            self.preemptions[event.id] = told + event.preemptions
            if event.finish is not None:
                self.ends[event.id] = event

    def add(self, *requests: Request) -> None:
        for request in requests:
            self.hear(self.engine.add(request))

    def abort(self, request_id: str) -> None:
        self.hear(self.engine.abort(request_id))

    def step(self) -> Idle | None:
        """One step and a pause; time jumps to where an idle engine wants to be asked again."""
        self.steps += 1
        assert self.steps <= MOST_STEPS, "requests are stuck"
        news = self.engine.step()
        self.scheduler.check()
        if isinstance(news, Idle):
            if news.until is not None:
                assert news.until > self.clock.seconds, "idle until the past"
                self.clock.seconds = news.until
            return news
        self.clock.seconds += self.pause
        self.hear(news)
        return None

    def drain(self) -> None:
        """Run until nobody is left; then every block must be free."""
        while self.engine.has_work:
            idle = self.step()
            assert idle is None or idle.until is not None, "idle for good with work to do"
        assert self.scheduler.pool.free == self.scheduler.pool.num_blocks


class BlocksElsewhere(BlockStore, Protocol):
    """Blocks of another engine, copied into `own`, which is a fake runner's store."""

    own: dict[tuple[int, int], int]


class TokenSeconds:
    """Step times: a second for each new token."""

    window: int | None = None

    def predict(self, shape: StepShape) -> float:
        return float(shape.tokens)

    bound = predict

    def learn(self, shape: StepShape, seconds: float) -> None:
        pass


def limits_of(*, seqs: int = 8, tokens: int = 64, partial: int = 4, model_len: int = 256) -> Limits:
    return Limits(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_num_partial_prefills=partial,
        max_model_len=model_len,
    )


def make_harness(
    policy: str | Policy = "continuous",
    *,
    blocks: int = 64,
    block_size: int = 4,
    limits: Limits | None = None,
    prefix_caching: bool = True,
    wait: float = 3.0,
    first_guess: int = 256,
    lengths: LengthEstimate | None = None,
    spoiled: Callable[[NewSequence], bool] = lambda entry: False,
    reserve_all: bool = False,
    proposer: Proposer | None = None,
    speculation: Speculation | None = None,
    step_times: StepTimes | None = TokenSeconds(),  # noqa: B008 - it has no state
    outliving: SealedBlocks | None = None,
    store: dict[tuple[int, int], int] | None = None,
    blocks_elsewhere: BlocksElsewhere | None = None,
) -> EngineHarness:
    limits = limits or limits_of()
    clock = StepClock()
    if proposer is not None:
        speculation = Speculation([proposer], AllDrafts())
    scheduler = Scheduler(
        policy=policy_of(policy, wait=wait) if isinstance(policy, str) else policy,
        pool=BlockPool(
            num_blocks=blocks,
            block_size=block_size,
            outliving=outliving,
            store=blocks_elsewhere,
        ),
        limits=limits,
        prefix_caching=prefix_caching,
        lengths=lengths or LengthEstimate(first_guess=first_guess),
        reserve_all=reserve_all,
        step_times=step_times,
        speculation=speculation,
    )
    runner = FakeRunner(block_size=block_size, limits=limits, spoiled=spoiled)
    if store is not None:
        runner.store = store
    if blocks_elsewhere is not None:
        blocks_elsewhere.own = runner.store
    engine = Engine(scheduler=scheduler, runner=runner, clock=clock)
    return EngineHarness(engine=engine, scheduler=scheduler, runner=runner, clock=clock)


def request_of(
    id: str = "a",  # noqa: A002
    *,
    prompt: tuple[int, ...] = (1, 2, 3),
    max_tokens: int = 4,
    stop: tuple[int, ...] = (),
    seed: int = 0,
    arrival: float = 0.0,
    priority: int = 0,
    group: str = "",
    cache_salt: str = "",
    generated: tuple[int, ...] = (),
    prompt_logprobs: int | None = None,
    tenant: str = "",
    objectives: tuple[Objective, ...] = (),
) -> Request:
    return Request(
        id=id,
        prompt=prompt,
        sampling=ResolvedSampling(
            max_tokens=max_tokens, seed=seed, stop_token_ids=stop, prompt_logprobs=prompt_logprobs
        ),
        arrival=arrival,
        priority=priority,
        group=group,
        cache_salt=cache_salt,
        generated=generated,
        tenant=tenant,
        objectives=objectives,
    )
