"""A draft model: a smaller model guesses what the model in its place would sample.

It samples as the model does, with the same parameters, seed and positions. A token is a function of
these and of the logits, so a guess is right wherever the two models' distributions nearly agree, at
any temperature. All sequences of a step are drafted for together: one pass of the draft model takes
in what it has not read yet, each further one a draft of every sequence. What was drafted wrongly is
overwritten. Long prompts are read in parts, and until one is read there are no drafts for it.

The draft model has a runner, a KV cache and blocks of its own. It changes no token and no plan of
others; what it costs is told, for whoever decides how many drafts pay.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import NamedTuple

from headway.clock import Clock
from headway.engine.draft_cache import DraftCache, DraftSequence
from headway.scheduling.drafts import Guess, Wanted
from headway.steptime.online import StepTimes
from headway.steptime.shape import decodes_after, shape_of
from headway.types import Limits, NewSequence, Request, ResolvedSampling, Slice, StepPlan
from headway.types.step import Runner

NEAR = 32
"""Tokens that a sequence may be behind and still be read at once: drafts that were accepted, and
what a few steps without drafts gave."""
PROMPT_TOKENS = 128
"""Tokens that are read in one round of sequences that are further behind, all together: the others
wait for it. It takes about as long as eight drafts."""
WORTH_READING = 32
"""Tokens that are read for each that a sequence may still generate: its drafts would not save the
time that more of them take."""


class DraftModel:
    """A `Proposer` that asks a model.

    `limits` are those of its runner, whose KV cache has `num_blocks` blocks of `block_size` tokens;
    `step_times` learn what its drafts take, and None leaves their cost unknown.
    """

    source = "draft_model"

    def __init__(
        self,
        runner: Runner,
        *,
        limits: Limits,
        num_blocks: int,
        block_size: int,
        clock: Clock,
        prefix_caching: bool = True,
        step_times: StepTimes | None = None,
    ) -> None:
        self.seconds = 0.0
        """What the last round took. It was part of the engine's cycle, but not of its step."""
        self._runner = runner
        self._limits = limits
        self._clock = clock
        self._times = step_times
        self._cache = DraftCache(
            num_blocks=num_blocks, block_size=block_size, prefix_caching=prefix_caching
        )
        self._step = 0
        self._context = 0
        """Tokens of a sequence that was drafted for, on average."""

    def may_propose(self, request: Request) -> bool:
        """All but those with a grammar, which the draft model does not follow."""
        return request.sampling.structured_outputs is None

    def cost(self, width: int) -> float:
        """See `headway.scheduling.drafts.Proposer`; 0 where nothing is known of the machine."""
        if self._times is None:
            return 0.0
        return self._times.predict(decodes_after([self._context] * width, self._times.window))

    def propose(self, wanted: Seq[Wanted]) -> list[Guess]:
        """See `headway.scheduling.drafts.Proposer`; none for those that are not read yet, or for
        which there is no room. Drafts end before a token that would end the sequence."""
        began = self._clock.now()
        self._cache.begin_round()
        turns = [self._turn(each) for each in wanted]
        drafting = self._compute(self._unread([turn for turn in turns if turn is not None]))
        while drafting:
            drafting = self._compute([_Part(turn, turn.drafts[-1:], 1) for turn in drafting])
        self.seconds = self._clock.now() - began
        return [Guess() if turn is None else Guess(turn.drafts) for turn in turns]

    def forget(self, request_id: str) -> None:
        """See `headway.scheduling.drafts.Proposer`."""
        self._cache.forget(request_id)

    def check(self) -> None:
        """Raise `AssertionError` where a block of its cache is lost."""
        self._cache.check()

    def _turn(self, wanted: Wanted) -> _Turn | None:
        """What one sequence is to get in this round, with room for it; None where it gets none."""
        request, tokens, most = wanted
        most = min(most, self._limits.max_model_len + 1 - len(tokens))
        seq = self._cache.find(request)
        if seq.failed:
            return None
        differed = seq.keep_common(tokens)
        self._cache.attach(seq, tokens)
        turn = _Turn(seq, tokens, most, differed)
        left = len(request.prompt) + request.sampling.max_tokens - len(tokens)
        if most > 0 and turn.behind <= max(NEAR, WORTH_READING * left):
            for turn.most in (most, 1):
                if self._cache.reserve(seq, len(tokens) + turn.most - 1):  # its last is not read
                    return turn
        self._cache.release(seq)
        return None

    def _unread(self, turns: Seq[_Turn]) -> list[_Part]:
        """What is read first, within the limits: of the sequences that are least behind before
        others, so that a long prompt never keeps those from their drafts that are further."""
        parts: list[_Part] = []
        left, prompts = self._limits.max_num_batched_tokens, PROMPT_TOKENS
        for turn in sorted(turns, key=attrgetter("behind")):
            count = min(turn.behind, left)
            if turn.behind > NEAR:
                count = min(count, prompts)
                prompts -= count
            if not count or len(parts) == self._limits.max_num_seqs:
                continue
            left -= count
            start = len(turn.seq.tokens)
            whole = count == turn.behind
            if turn.differed and not whole:
                # Only a slice that is sampled after takes the place of other tokens.
                self._cache.leave(turn.seq)
            parts.append(_Part(turn, turn.tokens[start : start + count], int(whole)))
        return parts

    def _compute(self, parts: Seq[_Part]) -> list[_Turn]:
        """One step of the draft model; those that it gave a draft and that want a further one."""
        if not parts:
            return []
        began = self._clock.now()
        new = [self._enter(part.turn) for part in parts if not part.turn.seq.entered]
        slices = [part.slice() for part in parts]
        self._step += 1
        plan = StepPlan(step=self._step, slices=slices, new=new, ended=self._cache.take_ended())
        sampled = {each.seq: each for each in self._runner.compute(plan).sampled}
        drafting: list[_Turn] = []
        for turn, tokens, outputs in parts:
            turn.seq.tokens += tokens
            self._cache.advance(turn.seq, turn.tokens)
            found = sampled[turn.seq.number] if outputs else None
            if found is not None and found.error is not None:
                self._cache.fail(turn.seq)
            elif found is not None and turn.take(found.tokens[0]):
                drafting.append(turn)
        self._context = sum(part.start for part in slices) // len(slices)
        if self._times is not None:
            shape = shape_of(slices, self._times.window)
            # Reading takes far longer, and one that was slow would make all drafts seem too dear.
            if shape.decodes == shape.sequences:
                self._times.learn(shape, self._clock.now() - began)
        return drafting

    def _enter(self, turn: _Turn) -> NewSequence:
        turn.seq.entered = True
        request = turn.seq.request
        return NewSequence(
            seq=turn.seq.number,
            tokens=tuple(turn.tokens),
            prompt_len=len(request.prompt),
            sampling=_without_logprobs(request.sampling),
        )


@dataclass(slots=True, eq=False)
class _Turn:
    """One sequence in one round."""

    seq: DraftSequence
    tokens: Seq[int]
    """All that are known of it."""
    most: int
    """Most drafts."""
    differed: bool
    """The runner knows other tokens in place of some of these."""
    drafts: list[int] = field(default_factory=list)

    @property
    def behind(self) -> int:
        """Tokens that the draft model has not read."""
        return len(self.tokens) - len(self.seq.tokens)

    def take(self, token: int) -> bool:
        """A draft was sampled; whether there may be another one after it."""
        if token in self.seq.request.sampling.stop_token_ids:
            return False
        self.drafts.append(token)
        return len(self.drafts) < self.most


class _Part(NamedTuple):
    """What one step computes of one sequence; with an output, a draft is sampled after it."""

    turn: _Turn
    tokens: Seq[int]
    outputs: int

    def slice(self) -> Slice:
        seq = self.turn.seq
        return Slice(
            seq=seq.number,
            start=len(seq.tokens),
            tokens=tuple(self.tokens),
            blocks=seq.blocks,
            outputs=self.outputs,
        )


def _without_logprobs(sampling: ResolvedSampling) -> ResolvedSampling:
    return replace(sampling, logprobs=None, prompt_logprobs=None, logprob_token_ids=())
