"""A recording, run again: replayed plan by plan, or predicted from its arrivals and lengths alone.

In a replay the requests come again at the same steps, and all plans must be equal. The shipped
scheduler decides anew; only the arrivals, the lengths and the times are taken from the recording.
So a difference means that the decision depends on something that was not recorded, or that the code
has changed since.

A prediction sends the same arrivals through the simulator, to stand beside what was measured. Both
sides are seen from the engine: a token comes when the step that gave it is over, so neither has the
client's or the server's share. Prompts keep the prefixes that they shared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Run
from headway.perf.sim.simulate import Setup, Simulated, simulate
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest
from headway.recording.format import Recording, RequestLine, SliceLine, StepLine, recorded_tokens
from headway.scheduling.build import build_scheduler
from headway.scheduling.drafts import Guess, Wanted
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.speculation.speculation import AllDrafts, Speculation
from headway.scheduling.stats import Idle
from headway.steptime.online import step_times_of
from headway.steptime.profiles import Profile
from headway.types import Limits, Request, ResolvedSampling, Sampled, Slice, StepPlan, StepResult
from headway.types.objectives import parse_objectives
from headway.types.speculation import SpeculativeConfig

_NEVER = -1
"""A stop token that nobody generates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """How far the plans agree."""

    steps: int
    """Those that were compared and found equal."""
    recorded: int
    """Those of the recording; beyond some may be requests whose end it does not have."""
    difference: str | None
    """The first one, for people; None if there is none."""

    @property
    def identical(self) -> bool:
        return self.difference is None


@dataclass(frozen=True, slots=True, kw_only=True)
class _RecordedRequest:
    """A recorded request with its made-up tokens, prompt and generated."""

    line: RequestLine
    tokens: tuple[int, ...]

    def request(self) -> Request:
        line = self.line
        prompt, resumed = line.prompt_tokens, line.prompt_tokens + line.resumed
        stop: tuple[int, ...] = ()
        if line.stops:
            stop = (self.tokens[-1] if line.finish == "stop" else _NEVER,)
        return Request(
            id=str(line.seq),
            prompt=self.tokens[:prompt],
            generated=self.tokens[prompt:resumed],
            sampling=ResolvedSampling(
                max_tokens=line.max_tokens,
                seed=line.seq,
                stop_token_ids=stop,
                prompt_logprobs=0 if line.prompt_logprobs else None,
            ),
            arrival=line.arrival,
            priority=line.priority,
            group=line.group,
            tenant=line.tenant,
            caller=line.caller,
            objectives=parse_objectives(line.objectives) if line.objectives else (),
            service_class=line.service_class,
        )

    def sampled(self, piece: Slice, given: int) -> Sampled:
        """What it sampled after a slice; one whose tokens have run out ended with an error."""
        known = piece.start + len(piece.tokens) - piece.outputs + 1
        if known >= len(self.tokens):
            return Sampled(seq=self.line.seq, error="as recorded")
        return Sampled(seq=self.line.seq, tokens=self.tokens[known : known + given])


@dataclass(slots=True)
class _RecordedDrafts:
    """A proposer of as many drafts as were recorded; which ones they were changes no plan."""

    step: StepLine | None = None
    source: str = "recorded"
    seconds: float = 0.0

    def may_propose(self, request: Request) -> bool:  # noqa: ARG002
        return True

    def cost(self, width: int) -> float:  # noqa: ARG002
        return 0.0

    def propose(self, wanted: Seq[Wanted]) -> list[Guess]:
        assert self.step is not None, "drafts are proposed in a step"
        counts = {str(part.seq): part.outputs - 1 for part in self.step.slices}
        return [Guess([0] * max(0, counts.get(each.request.id, 0))) for each in wanted]

    def forget(self, request_id: str) -> None:
        pass


def _as_recorded(drafts: _RecordedDrafts, limits: Limits) -> Speculation:
    return Speculation([drafts], AllDrafts(), most=limits.max_num_batched_tokens)


def _abort(
    aborted: list[_RecordedRequest], scheduler: Scheduler, *, before: int | None = None
) -> None:
    """Abort those that were aborted before that request was added, or all that are left."""
    for one in list(aborted):
        after = one.line.aborted_after
        if before is None or (after is not None and after < before):
            aborted.remove(one)
            scheduler.abort(str(one.line.seq))


def replay(recording: Recording) -> Replayed:
    """Plan every recorded step anew; stops at the first difference.

    Raises `InvalidRequest` where there is no policy such as the recorded one.
    """
    engine = recording.engine
    drafts = _RecordedDrafts() if any(step.given for step in recording.steps) else None
    scheduler = build_scheduler(
        engine.scheduler,
        step_times=step_times_of(engine.sizes, engine.machine),
        speculation=None if drafts is None else _as_recorded(drafts, engine.scheduler.limits),
    )
    requests = {
        line.seq: _RecordedRequest(
            line=line, tokens=recorded_tokens(line, engine.scheduler.block_size)
        )
        for line in recording.requests
        if line.seq
    }
    added: defaultdict[int, list[_RecordedRequest]] = defaultdict(list)
    aborted: defaultdict[int, list[_RecordedRequest]] = defaultdict(list)
    for number in sorted(requests):
        one = requests[number]
        added[one.line.step].append(one)
        if one.line.finish == "abort":
            aborted[one.line.end_step + 1].append(one)
    known = _known_steps(recording)
    for count, step in enumerate(recording.steps[:known]):
        for one in added[step.step]:
            _abort(aborted[step.step], scheduler, before=one.line.seq)
            scheduler.add(one.request())
        _abort(aborted[step.step], scheduler)
        if drafts is not None:
            drafts.step = step
        plan = scheduler.plan(step.at)
        difference = _compare(plan, step)
        if difference is None and isinstance(plan, StepPlan):
            sampled = [
                requests[piece.seq].sampled(piece, given)
                for piece, (_, given) in zip(plan.slices, step.outputs(), strict=True)
                if piece.outputs
            ]
            result = StepResult(step=plan.step, sampled=sampled, seconds=step.run)
            scheduler.commit(plan, result, step.done or step.at + step.run)
            difference = _compare_counts(scheduler, step)
        if difference is not None:
            return Replayed(steps=count, recorded=len(recording.steps), difference=difference)
    return Replayed(steps=known, recorded=len(recording.steps), difference=None)


def _known_steps(recording: Recording) -> int:
    """How many of the steps precede the arrival of the first request whose end is not recorded."""
    lines = sorted((line for line in recording.requests if line.seq), key=lambda line: line.seq)
    seen = max((piece.seq for step in recording.steps for piece in step.slices), default=0)
    before = 1
    for number, line in enumerate(lines, 1):
        if line.seq != number:
            break
        before = line.step
    else:
        if seen <= len(lines):
            return len(recording.steps)
    return sum(step.step < before for step in recording.steps)


def _compare(plan: StepPlan | Idle, step: StepLine) -> str | None:
    if isinstance(plan, Idle):
        return f"step {step.step}: nothing was planned, recorded were {_slices_text(step.slices)}"
    slices = tuple(
        [SliceLine(part.seq, part.start, len(part.tokens), part.outputs) for part in plan.slices]
    )
    if plan.step != step.step:
        return f"step {step.step} is recorded where step {plan.step} was planned"
    if slices != step.slices:
        recorded = _slices_text(step.slices)
        return f"step {step.step}: planned were {_slices_text(slices)}, recorded {recorded}"
    if tuple(plan.ended) != step.ended:
        return f"step {step.step}: {plan.ended} had left, recorded were {list(step.ended)}"
    return None


def _compare_counts(scheduler: Scheduler, step: StepLine) -> str | None:
    idle_stats = scheduler.idle_stats()
    for name, planned, recorded in (
        ("idle slots", idle_stats.idle_slots, step.idle_slots),
        ("waiting", idle_stats.waiting, step.waiting),
    ):
        if planned != recorded:
            return f"step {step.step}: {planned} {name}, recorded were {recorded}"
    return None


def _slices_text(slices: Seq[SliceLine]) -> str:
    """Such as "3 slices (1: 5+1, 2: 0+64, ...)", sequence and place and tokens of each."""
    shown = ", ".join(f"{part.seq}: {part.start}+{part.tokens}" for part in slices[:4])
    return f"{len(slices)} slices ({shown}{', ...' if len(slices) > 4 else ''})"


_DIGESTS = 2**41
"""Segment seeds from here on stand for recorded blocks, those below for single requests."""


def recorded_setup(recording: Recording, profile: Profile) -> Setup:
    """The engine that was recorded, with steps as long as the profile says."""
    return Setup(profile=profile, scheduler=recording.engine.scheduler)


def recorded_workload(recording: Recording) -> Workload:
    """The requests that got a token, at their arrivals after the first one's."""
    lines = list(_answered(recording))
    start = recorded_start(recording)
    return Workload(
        name=f"recording of {recording.engine.model}",
        requests=tuple(
            WorkloadRequest(
                segments=_segments(line, recording.engine.scheduler.block_size),
                output=line.output_tokens - line.resumed,
                cap=_cap(line),
                at=line.arrival - start,
            )
            for line in lines
        ),
    )


def recorded_start(recording: Recording) -> float:
    """When the first request that got a token arrived, on the engine's clock; 0 without one."""
    return min((line.arrival for line in _answered(recording)), default=0.0)


def with_recorded_ids(run: Run, recording: Recording) -> Run:
    """A run of the recorded workload, its requests called what they were called when recorded."""
    names = {str(place): line.id for place, line in enumerate(_answered(recording))}
    return replace(
        run,
        records=tuple(replace(record, id=names[record.id]) for record in run.records),
        bars=tuple(bar._replace(request=names[bar.request]) for bar in run.bars),
    )


def predict(
    recording: Recording,
    profile: Profile,
    *,
    seed: int = 0,
    residuals: bool = True,
    acceptance: float | None = None,
) -> Simulated:
    """What the simulator makes of the recorded requests; see `Setup` for `acceptance`."""
    setup = recorded_setup(recording, profile)
    if acceptance is not None:
        speculation = setup.scheduler.speculation or SpeculativeConfig()
        scheduler = replace(setup.scheduler, speculation=speculation)
        setup = replace(setup, scheduler=scheduler, acceptance=acceptance)
    return simulate(
        recorded_workload(recording),
        setup,
        seed=seed,
        residuals=residuals,
        keep_bars=True,
    )


@dataclass(slots=True)
class _Tokens:
    times: list[float] = field(default_factory=list)
    """When each token came."""
    start: int | None = None
    """Where its first slice began: after what the prefix cache had."""
    drafts: int = 0
    accepted: int = 0


def measured(recording: Recording) -> tuple[tuple[RequestRecord, ...], float, Mapping[int, int]]:
    """What was recorded: a record for each request, the duration in seconds, and how often each
    time between tokens (whole microseconds) occurred."""
    seen = {line.seq: _Tokens() for line in recording.requests if line.seq}
    for step in recording.steps:
        for piece, given in step.outputs():
            if piece.seq in seen:
                one = seen[piece.seq]
                one.start = piece.start if one.start is None else one.start
                one.times += [step.at + step.cycle] * given
                one.drafts += max(0, piece.outputs - 1)
                one.accepted += max(0, given - 1)
    lines = [line for line in _answered(recording) if seen[line.seq].times]
    start = min((line.arrival for line in lines), default=0.0)
    gaps: Counter[int] = Counter()
    records = []
    for line in lines:
        one = seen[line.seq]
        # Of drafts that were right, those after a stop token are nobody's.
        del one.times[line.output_tokens - line.resumed :]
        record = RequestRecord(
            id=line.id,
            due=line.arrival - start,
            sent=line.arrival - start,
            prompt_tokens=line.prompt_tokens + line.resumed,
            output_tokens=len(one.times),
            cached_tokens=one.start or 0,
            draft_tokens=one.drafts,
            accepted_tokens=min(one.accepted, max(0, len(one.times) - 1)),
        ).with_times(one.times, sent=line.arrival)
        gaps.update(round(gap * 1e6) for gap in record.itls)
        records.append(replace(record, itls=()))
    end = max((seen[line.seq].times[-1] for line in lines), default=start)
    return tuple(records), end - start, gaps


def _answered(recording: Recording) -> Iterator[RequestLine]:
    lines = (line for line in recording.requests if line.seq)
    for line in sorted(lines, key=lambda line: (line.arrival, line.seq)):
        if line.output_tokens > line.resumed:
            yield line


def _segments(line: RequestLine, block_size: int) -> tuple[Segment, ...]:
    """Prompt, and what an earlier engine had generated, by its blocks."""
    length = line.prompt_tokens + line.resumed
    blocks = [
        Segment(_DIGESTS + int(digest, 16) % _DIGESTS, block_size)
        for digest in line.hashes[: length // block_size]
    ]
    left = length - len(blocks) * block_size
    return (*blocks, Segment(line.seq, left)) if left else tuple(blocks)


def _cap(line: RequestLine) -> int:
    """What its caller allowed; no more than came where the scheduler knew how much would."""
    came = line.output_tokens - line.resumed
    return max(came, line.max_tokens - line.resumed) if line.stops else came
