"""A step under construction: what is in it so far, and what more it may take within its time."""

from __future__ import annotations

from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape, pairs_within


class StepLoad:
    """Counts what sequences add to a step, and predicts its seconds."""

    __slots__ = (
        "_context",
        "_context_near",
        "_decode_near",
        "_pairs",
        "_pairs_near",
        "_rows",
        "_times",
        "_window",
        "decode_context",
        "decodes",
        "prefills",
        "tokens",
    )

    def __init__(self, times: StepTimes) -> None:
        self._times = times
        self._window = times.window
        self.tokens = self.prefills = self.decodes = self.decode_context = 0
        self._rows = self._pairs = self._context = 0
        self._decode_near = self._pairs_near = self._context_near = 0

    def decode(self, contexts: int, decodes: int, contexts_near: int) -> None:
        """So many sequences decode a token each, with so many positions of context in sum, of which
        so many are within the model's sliding window (0 where it has none)."""
        self.tokens += decodes
        self.decodes += decodes
        self._rows += decodes
        self.decode_context += contexts
        self._decode_near += contexts_near

    def prefill(self, start: int, count: int, *, ends: bool) -> None:
        """Some sequence computes `count` tokens from position `start`; `ends`: its last known."""
        if count == 1:
            self.decodes += 1
            self.decode_context += start + 1
            if self._window is not None:
                self._decode_near += min(start + 1, self._window)
        else:
            self.prefills += 1
            self._pairs += count * start + count * (count + 1) // 2
            self._context += start + count
            if self._window is not None:
                self._pairs_near += pairs_within(start, count, self._window)
                self._context_near += min(start + count, self._window + count - 1)
        self.tokens += count
        self._rows += ends

    def copy(self) -> StepLoad:
        """The same load, to try something with."""
        other = StepLoad(self._times)
        for name in StepLoad.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    @property
    def shape(self) -> StepShape:
        return StepShape(
            tokens=self.tokens,
            sequences=self.decodes + self.prefills,
            rows=self._rows,
            decodes=self.decodes,
            decode_context=self.decode_context,
            prefill_pairs=self._pairs,
            prefill_context=self._context,
            decode_context_window=self._decode_near,
            prefill_pairs_window=self._pairs_near,
            prefill_context_window=self._context_near,
        )

    @property
    def seconds(self) -> float:
        """What the step is expected to take."""
        return self._times.predict(self.shape)

    @property
    def bound(self) -> float:
        """What it nearly certainly does not exceed."""
        return self._times.bound(self.shape)

    def with_prefill(self, start: int, count: int, *, ends: bool = True) -> StepLoad:
        """This load and a prefill."""
        other = self.copy()
        other.prefill(start, count, ends=ends)
        return other

    def largest_chunk(self, start: int, todo: int, most: int, budget: float) -> int:
        """The most tokens, up to `todo` and `most`, of a prefill from `start` that keep the budget
        of seconds; 0 where none does."""
        high = min(todo, most)
        if high < 1:
            return 0
        if self.with_prefill(start, high, ends=high == todo).bound <= budget:
            return high
        low = 0
        while high - low > max(1, low // 32):  # a few per cent are as good as a token
            middle = (low + high) // 2
            if self.with_prefill(start, middle, ends=False).bound <= budget:
                low = middle
            else:
                high = middle
        return low
