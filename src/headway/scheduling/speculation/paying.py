"""The drafts that pay: a rule that is never slower than none, for any stream.

What a draft is worth follows from how likely it is right (`acceptance`), what it costs from the
step-time model and from what steps with drafts took (`draft_seconds`), how many of them give the
most tokens a second from both (`choice`). All of it is a guess; so each stream has an account, its
*lead*: by how many steps it is ahead of where it would be without drafts, as the tokens came that
were right in truth. Who is not ahead is not delayed for others, and who has fallen behind by drafts
of its own gets none for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from headway.scheduling.drafts import Proposer
from headway.scheduling.sequence import Sequence
from headway.scheduling.speculation.acceptance import Acceptance, Kind
from headway.scheduling.speculation.accounts import StreamAccount
from headway.scheduling.speculation.choice import (
    LEAST_CHANCE,
    DraftChoice,
    DraftStream,
    StepOutlook,
    choose,
    may_pay,
    outlook_of,
    probe,
    seconds_to_find,
)
from headway.scheduling.speculation.draft_seconds import DraftSeconds, step_class
from headway.scheduling.speculation.speculation import DraftStep, Guesses
from headway.scheduling.speculation.worth import Worth
from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape, decodes_after

REMEMBERED = 8
"""Steps of as many decodes, after one that may pay or not, for which that is not asked again."""
PROBE = 32
"""Steps without drafts, as none seem to pay, after which one tries whether one does: what is
believed of their costs, and of their chances, is put right by nothing else."""
FRUITLESS = 16
"""Times that a stream was asked about in a row without drafts that were computed; from then on it
is asked about in every `REST`-th step only, unless it is alone: most answers never repeat anything,
and to ask costs the others 25 microseconds or so. One that begins to repeat is noticed a few tokens
later."""
REST = 4
ASSUMED_COST = 0.25
"""Of a step: what a draft is taken to cost where nothing predicts steps."""


class AssumedTimes:
    """`StepTimes` of a machine of which nothing is known: of one decode a step and its drafts."""

    window: int | None = None

    def predict(self, shape: StepShape) -> float:
        return 1.0 + ASSUMED_COST * (shape.tokens - 1)

    bound = predict

    def learn(self, shape: StepShape, seconds: float) -> None:
        pass


def _constrained(seq: Sequence) -> bool:
    return seq.request.sampling.structured_outputs is not None


def _assumed_cost(width: int) -> float:  # noqa: ARG001
    return ASSUMED_COST


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A step that was looked at, and what it is expected to take."""

    choice: DraftChoice
    accounts: Seq[StreamAccount] = ()
    """Of all that decode in it; none where nothing delays them."""
    drafts: int = 0
    constrained: bool = False
    """Whether a grammar is among those with drafts."""
    telling: bool = False
    """Its time tells something of that of drafts: there are but decodes, with the drafts that were
    chosen."""
    decodes: int = 0
    token: float = 0.0
    """Seconds that a token of its streams costs without drafts."""
    finding: float = 0.0
    """Seconds that its drafts were expected to take to be found."""
    asking: Mapping[str, float] = field(default_factory=dict)
    """Seconds that sources took to find them."""

    def saved(self, source: str) -> float:
        """Seconds that the drafts of a source saved."""
        mine = [each for each in self.accounts if each.drafts and each.kind[0] == source]
        share = sum([each.drafts for each in mine]) / self.drafts
        return sum([each.gained for each in mine]) * self.token - share * self.choice.further


class PayingDrafts:
    """A `DraftRule`. Without `times`, which predict steps, one that decodes alone has drafts, as if
    each cost a quarter of a step."""

    def __init__(self, times: StepTimes | None) -> None:
        self.declined = 0
        self._alone = times is None
        self._seconds = DraftSeconds(times or AssumedTimes())
        self._acceptance = Acceptance()
        self._accounts: dict[int, StreamAccount] = {}
        self._worth: dict[str, Worth] = {}
        """By source."""
        self._finding = 0.0
        """Seconds to find what was asked for in the step that is planned."""
        self._outlook: StepOutlook | None = None
        """Of the step that is planned, once it was looked at."""
        self._opened = False
        self._decodes = 0
        """Of the step for which that was found, if there was nothing else in it."""
        self._asked_again = 0
        """The step from which on it is found anew."""
        self._probing = False
        """The step that is planned tries a draft though it does not seem to pay."""
        self._tried = 0
        """The last step that had drafts, or tried to."""
        self._chosen = DraftChoice(())
        self._usual = 1
        """Drafts that were chosen last."""
        self._under_way: _UnderWay | None = None

    def opens(self, step: DraftStep) -> bool:
        """See `DraftRule`."""
        self._outlook = None
        decodes = 0 if step.others else len(step.decodes)
        if not (decodes and decodes == self._decodes and step.number < self._asked_again):
            self._opened = self._may_pay(step)
            self._decodes, self._asked_again = decodes, step.number + REMEMBERED
        self._probing = not self._opened and self._probes(step)
        if not self._opened:
            self.declined += len(step.most)
        return self._opened or self._probing

    def asks(
        self, step: DraftStep, proposer: Proposer, asked: Seq[Sequence], found: Guesses
    ) -> Seq[int]:
        """See `DraftRule`: what costs something to find must pay before it is looked for."""
        if self._probing:
            one = asked[step.number // PROBE % len(asked)]
            return [int(seq is one) for seq in asked]
        worth = self._worth.get(proposer.source)
        if worth is not None and not worth.asks(step.number):
            return [0] * len(asked)
        if not proposer.cost(len(asked)):
            return [0 if self._rests(seq, step) else step.most[seq] for seq in asked]
        kind = (proposer.source, "")
        expected = {seq: (step.most[seq], kind) for seq in asked}
        known = {seq: (len(guess.tokens), guess.kind) for seq, guess in found.items()}
        streams = self._streams(step, known | expected)
        find = _assumed_cost if self._alone else proposer.cost
        outlook = self._look_at(step)._replace(find=find, most_seconds=step.most_seconds())
        chosen = choose(outlook, streams, usual=self._usual)
        counts = dict(zip(step.decodes, chosen.counts, strict=True))
        self._finding = seconds_to_find(find, [counts[seq] for seq in asked])
        for seq in asked:
            if not counts[seq]:
                self._decline(seq, kind)
        return [counts[seq] for seq in asked]

    def counts(self, step: DraftStep, found: Guesses) -> Mapping[Sequence, int]:
        """See `DraftRule`."""
        if not found:
            return {}
        known = {seq: (len(guess.tokens), guess.kind) for seq, guess in found.items()}
        streams = self._streams(step, known)
        outlook = self._look_at(step)._replace(most_seconds=step.most_seconds())
        if not self._probing:
            self._chosen = choose(outlook, streams, usual=self._usual)
            self._usual = sum(self._chosen.counts)
        if self._probing or (not self._usual and self._probes(step)):
            self._chosen = probe(outlook, streams)
        counts = {}
        for seq, count in zip(step.decodes, self._chosen.counts, strict=True):
            if count:
                counts[seq] = count
                self._account(seq, step).kind = found[seq].kind
            elif seq in found:
                self._decline(seq, found[seq].kind)
        return counts

    def begins(
        self, step: DraftStep, given: Mapping[Sequence, int], asking: Mapping[str, float]
    ) -> None:
        """See `DraftRule`."""
        finding, self._finding = self._finding, 0.0
        if not given:
            for source, seconds in asking.items():
                self._worth.setdefault(source, Worth()).learn(seconds, 0.0)
        if self._outlook is None:
            return  # nobody looked at it: nothing was found
        chosen = self._chosen if given else DraftChoice((), self._outlook.plain)
        accounts: list[StreamAccount] = []
        if given:  # what a source reads before it finds anything is its own affair: see `Worth`
            accounts = [self._account(seq, step) for seq in step.decodes]
            for seq, account in zip(step.decodes, accounts, strict=True):
                account.drafts, account.gained = given.get(seq, 0), 0
                if account.drafts:
                    account.fruitless = 0
        drafts = sum(given.values())
        if drafts:
            self._tried = step.number
        self._under_way = _UnderWay(
            choice=chosen,
            accounts=accounts,
            drafts=drafts,
            constrained=any(map(_constrained, given)),
            telling=not step.others and drafts == sum(chosen.counts),
            decodes=len(step.decodes),
            token=self._outlook.alone / len(step.decodes),
            finding=finding if given else 0.0,
            asking=asking if given else {},
        )

    def accepted(self, seq: Sequence, count: int) -> None:
        """See `DraftRule`."""
        account = self._accounts.get(seq.id)
        if account is not None and account.drafts:
            account.gained = count
            self._acceptance.learn(account.own, account.kind, account.drafts, count)

    def took(self, seconds: float | None) -> None:
        """See `DraftRule`."""
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return
        choice = under_way.choice
        if under_way.telling and seconds is not None:
            kind = step_class(under_way.decodes, constrained=under_way.constrained)
            self._seconds.learn(choice.plain, choice.shape, under_way.drafts, kind, seconds)
        for source, spent in under_way.asking.items():
            worth = self._worth.setdefault(source, Worth())
            worth.learn(spent, under_way.saved(source))
        longer = (choice.further + under_way.finding) / choice.plain
        for account in under_way.accounts:
            account.settle(longer)

    def forget(self, seq: Sequence) -> None:
        """See `DraftRule`."""
        self._accounts.pop(seq.id, None)

    def _rests(self, seq: Sequence, step: DraftStep) -> bool:
        """Whether a stream is not asked about in this step, as nothing came of it for long."""
        if len(step.decodes) == 1 or _constrained(seq):
            return False  # what a grammar forces comes again and again
        account = self._account(seq, step)
        if account.fruitless >= FRUITLESS and step.number % REST:
            return True
        account.fruitless += 1
        return False

    def _may_pay(self, step: DraftStep) -> bool:
        """Whether any draft may, by the sequence whose drafts cost least."""
        if self._alone and (step.others or len(step.decodes) > 1):
            return False
        first = min(step.most, key=lambda seq: seq.computed)
        outlook = self._look_at(step)
        return may_pay(outlook, first.computed, constrained=_constrained(first))

    def _probes(self, step: DraftStep) -> bool:
        """Whether one draft is tried in a step in which none seems to pay."""
        if self._alone or step.others or step.number < self._tried + PROBE:
            return False
        self._tried = step.number
        return True

    def _look_at(self, step: DraftStep) -> StepOutlook:
        if self._outlook is not None:
            return self._outlook
        window = self._seconds.times.window
        decodes = decodes_after([seq.computed for seq in step.decodes], window)
        shape = decodes
        for seq, count in step.others:
            shape = shape.with_slice(seq.computed, count, int(count == seq.todo), window)
        self._outlook = outlook_of(shape, decodes, self._seconds, step.most_tokens)
        return self._outlook

    def _streams(
        self, step: DraftStep, known: Mapping[Sequence, tuple[int, Kind]]
    ) -> list[DraftStream]:
        """The decodes, of which some have so many drafts of a kind."""
        streams = []
        for seq in step.decodes:
            account = self._account(seq, step)
            chances: Seq[float] = ()
            if seq in known and account.may_draft:
                count, kind = known[seq]
                chances = self._acceptance.chances(account.own, kind, count, least=LEAST_CHANCE)
            streams.append(DraftStream(seq.computed, chances, account.lead, _constrained(seq)))
        return streams

    def _account(self, seq: Sequence, step: DraftStep) -> StreamAccount:
        account = self._accounts.get(seq.id)
        if account is None:
            account = self._accounts[seq.id] = StreamAccount(reckoned=step.number)
        account.catch_up(step.number)
        return account

    def _decline(self, seq: Sequence, kind: Kind) -> None:
        self.declined += 1
        account = self._accounts.get(seq.id)
        if account is not None:
            self._acceptance.untried(account.own, kind)
