"""Prompt lookup: where the last tokens stood before in prompt and answer, the text goes on alike.

It costs no model (Saxena, "Prompt lookup decoding", 2023), and is right wherever an answer repeats:
text that is edited, quoted or translated to another form, code, lists, tables.

Of each request there is an index of the places of all runs of `least` tokens, and of the last place
of each run of `longest`. New tokens are added as they come, so that a guess costs a few
microseconds however long the text is. A guess depends on the text alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from typing import NamedTuple

from headway.errors import InvalidRequest
from headway.scheduling.drafts import Guess, Wanted
from headway.types import Request

PLACES = 16
"""Earlier places of a short run that are looked at, from the last: some runs are everywhere."""
AT_ONCE = 2048
"""Tokens of all texts that are added in one step: about a millisecond. A long one takes several
steps, without guesses until then."""
MOST_TOKENS = 2**18
"""In all indices together; 200 to 350 bytes each."""
LONG = (16, 8, 4)
"""Matches of at least so many tokens are alike right."""


class RunIndex:
    """Where runs of `least` and of `longest` tokens stand in one text, which may grow."""

    __slots__ = ("_earlier", "_latest", "_least", "_longest", "end")

    def __init__(self, least: int, longest: int) -> None:
        self._least = least
        self._longest = longest
        self._latest: dict[tuple[int, ...], int] = {}
        """For each run of either length, the place after its last occurrence."""
        self._earlier: list[int] = []
        """By such a place (less `least`): that after the occurrence before; 0: there is none."""
        self.end = least
        """Runs that end before that place are known."""

    def extend(self, text: Seq[int], end: int) -> None:
        """Add the runs that end before `end`, of a text that began with those known."""
        known, latest = self.end, self._latest
        for place, run in _runs(text, self._least, known, end):
            self._earlier.append(latest.get(run, 0))
            latest[run] = place
        if self._longest > self._least:
            latest.update((run, place) for place, run in _runs(text, self._longest, known, end))
        self.end = max(known, end)

    def find(self, text: Seq[int], asked: Seq[int]) -> tuple[int, int]:
        """The place in `text`, whose index this is, after the longest run that `asked` ends with,
        and its length, which counts up to `longest`: the last such place, as far as was looked.

        (0, 0) where there is no run of `least`.
        """
        least, longest, end = self._least, self._longest, len(asked)
        if end < least:
            return 0, 0
        place = self._latest.get(tuple(asked[-longest:]), 0) if end >= longest else 0
        if place:
            return place, longest
        place = self._latest.get(tuple(asked[-least:]), 0)
        found = best = 0
        for _ in range(PLACES):
            if not place:
                break
            length = common_end(text, place, asked, least, longest)
            if length > best:
                found, best = place, length
                if length >= longest - 1:
                    break  # one of `longest` would have been found before
            place = self._earlier[place - least]
        return found, best


def _runs(
    text: Seq[int], length: int, known: int, end: int
) -> Iterable[tuple[int, tuple[int, ...]]]:
    """The runs of a length that end at `known` or after it and before `end`, and where."""
    known = max(known, length)
    if end <= known:
        return ()
    if end == known + 1:  # as nearly always: the text has one more token
        return ((known, tuple(text[known - length : known])),)
    columns = [text[known - length + n : end - length + n] for n in range(length)]
    return enumerate(zip(*columns, strict=True), known)


def common_end(text: Seq[int], place: int, asked: Seq[int], known: int, most: int) -> int:
    """How many tokens before `place` are those at the end of `asked`: `known` are, up to `most`."""
    end = len(asked)
    most = min(most, place, end)
    while known < most and text[place - 1 - known] == asked[end - 1 - known]:
        known += 1
    return known


class _Match(NamedTuple):
    length: int
    tokens: Seq[int]
    predicted: bool = False


class _Texts:
    """The indices of one request: of what is known, and of what its caller predicts."""

    __slots__ = ("own", "predicted", "request")

    def __init__(self, request: Request, least: int, longest: int, *, own: bool) -> None:
        self.request = request
        self.own = RunIndex(least, longest) if own else None
        self.predicted = RunIndex(least, longest) if request.prediction else None

    def catch_up(self, tokens: Seq[int], room: int) -> tuple[bool, int]:
        """Add what is new, but no more than `room`; whether that was all, and the room left."""
        for index, text in ((self.predicted, self.request.prediction), (self.own, tokens)):
            if index is not None:
                end = min(len(text), index.end + room)
                room -= max(0, end - index.end)
                index.extend(text, end)
                if end < len(text):
                    return False, room
        return True, room


class PromptLookup:
    """A `Proposer` for all requests, or with `predicted_only` for those with a prediction, in
    which alone it looks then.

    Looks for the last `longest` tokens, else for fewer, down to `least`; the last place counts.
    Raises `InvalidRequest` for less than one token, or fewer at most than at least.
    """

    source = "ngram"
    seconds = 0.0

    def __init__(self, *, longest: int = 4, least: int = 2, predicted_only: bool = False) -> None:
        if not 1 <= least <= longest:
            raise InvalidRequest(
                f"prompt lookup looks for {least} to {longest} tokens: there must be at least one",
                field="prompt_lookup_min",
            )
        self._longest = longest
        self._least = least
        self._predicted_only = predicted_only
        self._texts: OrderedDict[str, _Texts] = OrderedDict()
        """By request; those asked about last are last."""
        self._sizes: dict[str, int] = {}
        self._size = 0
        """Tokens in all of them."""
        self._room = AT_ONCE
        """Tokens that may still be added in this step."""

    def may_propose(self, request: Request) -> bool:
        """See `headway.scheduling.drafts.Proposer`."""
        return bool(request.prediction) or not self._predicted_only

    def cost(self, width: int) -> float:  # noqa: ARG002
        """See `headway.scheduling.drafts.Proposer`."""
        return 0.0

    def propose(self, wanted: Seq[Wanted]) -> list[Guess]:
        """See `headway.scheduling.drafts.Proposer`."""
        asked = {each.request.id for each in wanted}
        self._room = AT_ONCE
        return [self._guess(each, asked) for each in wanted]

    def forget(self, request_id: str) -> None:
        """See `headway.scheduling.drafts.Proposer`."""
        if self._texts.pop(request_id, None) is not None:
            self._size -= self._sizes.pop(request_id)

    @property
    def size(self) -> int:
        """Tokens in all indices; at most `MOST_TOKENS`."""
        return self._size

    def _guess(self, wanted: Wanted, asked: set[str]) -> Guess:
        texts = self._texts_of(wanted, asked)
        if texts is None:
            return Guess()
        whole, self._room = texts.catch_up(wanted.tokens, self._room)
        if not whole:
            return Guess()
        match = self._match(texts, wanted)
        return Guess(match.tokens, _kind(match)) if match.tokens else Guess()

    def _texts_of(self, wanted: Wanted, asked: set[str]) -> _Texts | None:
        """What is known of a request; None where there is no room beside others of this step."""
        request, tokens, _ = wanted
        known = self._texts.get(request.id)
        if known is not None and known.request is not request:
            self.forget(request.id)
            known = None
        size = len(request.prediction) + (0 if self._predicted_only else len(tokens))
        if size > MOST_TOKENS:
            return None
        more = size - self._sizes.get(request.id, 0)
        while self._size + more > MOST_TOKENS:
            oldest = next(iter(self._texts), None)
            if oldest is None or oldest in asked:
                return None
            self.forget(oldest)
        if known is None:
            known = _Texts(request, self._least, self._longest, own=not self._predicted_only)
            self._texts[request.id] = known
        else:
            self._texts.move_to_end(request.id)
        self._sizes[request.id] = size
        self._size += more
        return known

    def _match(self, texts: _Texts, wanted: Wanted) -> _Match:
        """The longest one; of equals, that in the prediction."""
        request, tokens, most = wanted
        best = _Match(0, ())
        if texts.predicted is not None:
            best = self._predicted(texts.predicted, request, tokens, most)
        if texts.own is not None:
            place, length = texts.own.find(tokens, tokens)
            length = common_end(tokens, place, tokens, length, LONG[0])
            if length > best.length:
                # Beyond the end, the text goes on as it has since the place.
                period = list(tokens[place : place + most])
                best = _Match(length, (period * (most // len(period) + 1))[:most])
        return best

    def _predicted(self, index: RunIndex, request: Request, tokens: Seq[int], most: int) -> _Match:
        text, made = request.prediction, len(tokens) - len(request.prompt)
        if made < self._least and text[:made] == tuple(tokens[len(tokens) - made :]):
            return _Match(max(made, 1), text[made : made + most], predicted=True)
        answer = tokens[-LONG[0] :]
        place, length = index.find(text, answer)
        length = common_end(text, place, answer, length, LONG[0])
        return _Match(length, text[place : place + most] if length else (), predicted=True)


def _kind(match: _Match) -> str:
    """Guesses after longer matches are right more often."""
    length = next((each for each in LONG if match.length >= each), match.length)
    return f"predicted {length}" if match.predicted else str(length)
