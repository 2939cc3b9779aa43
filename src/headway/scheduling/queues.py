"""The waiting and the running queue, and how sequences move: admitted, preempted, ended.

The moves keep the two queues, the blocks and what the runner knows in agreement; nothing else may
change a sequence's state. Which sequence moves, and when, is decided elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from operator import attrgetter

from headway.scheduling.block_pool import BlockPool, PrefixCache
from headway.scheduling.loading import BlockLoader
from headway.scheduling.policy import Policy
from headway.scheduling.sequence import Sequence
from headway.scheduling.traffic import TrafficEstimate
from headway.scheduling.waiting import WaitingQueue

_order = attrgetter("order")


class RequestQueue:
    """Sequences by their `order`: iterating costs nothing, entry and exit cost a binary search."""

    __slots__ = ("sequences",)

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self.sequences)

    def add(self, seq: Sequence) -> None:
        insort(self.sequences, seq, key=_order)

    def remove(self, seq: Sequence) -> None:
        del self.sequences[bisect_left(self.sequences, seq.order, key=_order)]


class Queues:
    """Both queues, in the policy's order, and an index of them.

    Where the pool has a store, blocks of requests that were elsewhere before are loaded from it, up
    to `most_loaded` tokens in a step.
    """

    def __init__(self, pool: BlockPool, policy: Policy, *, most_loaded: int = 0) -> None:
        self.pool = pool
        self._policy = policy
        self.prefixes = PrefixCache(pool)
        self._loader = None
        if pool.store is not None:
            self._loader = BlockLoader(pool, self.prefixes, pool.store, most_loaded)
        self.traffic = TrafficEstimate()
        self.waiting = WaitingQueue(fair=policy.fair, by_order=policy.by_deadline)
        self.running = RequestQueue()
        self.live: dict[int, Sequence] = {}
        self.by_request: dict[str, Sequence] = {}
        self.launch_size = 0
        """How many have been admitted since nobody was running."""
        self.capacity_epoch = 0
        """Grows whenever memory may have become less scarce than it was estimated to be."""
        self.preemptions = 0
        self.gave_way = 0
        """Of the preemptions, those for a fair share."""
        self.paced = 0
        """Live sequences with objectives."""
        self.on_leave: Callable[[Sequence], None] | None = None
        """Told of each sequence that runs no more, whether it has ended or waits again."""
        self._deferred: list[Sequence] = []
        self._left: list[int] = []

    def arrive(self, seq: Sequence) -> None:
        self.traffic.arrived(seq.request)
        self.prefixes.name(seq)
        self._place(seq)
        self.live[seq.id] = seq
        self.by_request[seq.request.id] = seq
        self.paced += seq.pace.any
        self.waiting.add(seq)

    def admit(self, seq: Sequence) -> None:
        """From the waiting queue to the running one, with the prefix hits that it holds."""
        if not self.running:
            self.launch_size = 0
        self.launch_size += 1
        self.waiting.admit(seq)
        self._place(seq)
        self.running.add(seq)
        seq.state = "running"
        seq.hits, seq.known = seq.computed, len(seq.tokens)
        if self._loader is not None:
            self._loader.begin(seq)
        if seq.deferred:
            self._deferred.append(seq)

    def preempt(self, seq: Sequence) -> None:
        """Back to its place in the waiting queue; what it computed will be computed again."""
        seq.preemptions += 1
        self._wait_again(seq)

    def give_way(self, seq: Sequence) -> None:
        """As `preempt`, for the fair share of another caller."""
        self.gave_way += 1
        seq.gave_way += 1
        self._wait_again(seq)

    def relegate(self, seq: Sequence) -> None:
        """A waiting sequence cannot be on time any more: it goes behind those that can."""
        with self.waiting.moved(seq):
            seq.late = True
            self._place(seq)

    @property
    def turn_may_end(self) -> bool:
        """Whether some caller takes more than its share while another waits; cheap."""
        return bool(self.waiting) and self.waiting.anyone_owes(self.waiting[0])

    def whose_turn_ends(self) -> Sequence | None:
        """The running sequence whose slot or blocks are due to the first that waits; None: nobody.

        It is the youngest of the caller that holds most, if that takes more than its share, no more
        urgent than the one that waits, and never the first in the queue, which always goes on.
        """
        if not self.turn_may_end:
            return None
        waiting, first = self.waiting, self.waiting[0]
        due = [
            (waiting.claim(seq), place)
            for place, seq in enumerate(self.running)
            if place
            and seq.settled
            and seq.preemptible
            and seq.standing >= first.standing
            and waiting.owes(seq, first)
        ]
        return self.running.sequences[max(due)[1]] if due else None

    def end(self, seq: Sequence) -> None:
        if seq.state == "running":
            self._count_traffic(seq)
            served = seq.computed - seq.hits
            self._leave(seq)
            self.waiting.leave(seq, served, again=False)
        else:
            self.waiting.remove(seq)
        seq.state = "ended"
        self.paced -= seq.pace.any
        del self.live[seq.id]
        del self.by_request[seq.request.id]

    def sort(self) -> None:
        """Ask the policy anew for the order of all sequences."""
        for seq in self.live.values():
            self._place(seq)
        self.waiting.sort()
        self.running.sequences.sort(key=_order)

    def attach_deferred(self, step: int) -> None:
        """See whether deferred sequences can have their shared prefix, or must go on without."""
        if not self._deferred:
            return
        loader = self._loader
        if loader is not None:
            loader.begin_step()
        for seq in self._deferred:
            if loader is not None and seq.loading:
                loader.load(seq, step)
                continue
            self.prefixes.attach(seq, step)
            if loader is not None:
                loader.begin(seq)
        self._deferred = [seq for seq in self._deferred if seq.deferred]

    @property
    def loading(self) -> bool:
        """Whether blocks of any sequence are still to be loaded."""
        return self._loader is not None and any(seq.loading for seq in self._deferred)

    def take_left(self) -> list[int]:
        """Sequences that have left since the last call, of those that the runner knows."""
        left, self._left = self._left, []
        return left

    def check(self) -> None:
        """Raise `AssertionError` if blocks or sequences are lost or in two places."""
        self.pool.check()
        self.waiting.check()
        waiting, running = list(self.waiting), list(self.running)
        in_tables = {block for seq in running for block in seq.blocks}
        size = self.pool.block_size
        for true, broken in (
            (len(in_tables) == self.pool.num_blocks - self.pool.free, "a block leaks"),
            ({seq.id for seq in waiting + running} == set(self.live), "a sequence is lost"),
            (len(waiting) + len(running) == len(self.live), "a sequence is in two queues"),
            (len(self.live) == len(self.by_request), "the indices disagree"),
            (
                all(s.state == "waiting" and not s.blocks for s in waiting),
                "a waiting sequence has blocks",
            ),
            (all(s.state == "running" and s.todo > 0 for s in running), "nothing to do"),
            (
                all(s.todo == len(s.tokens) - s.computed for s in waiting + running),
                "what is left to do is wrong",
            ),
            (running == sorted(running, key=lambda s: s.order), "the running queue is unsorted"),
            (all(s.computed <= len(s.blocks) * size for s in running), "a token has no place"),
            (
                {s for s in running if s.deferred} == set(self._deferred),
                "a deferred sequence is forgotten",
            ),
        ):
            if not true:
                raise AssertionError(broken)

    def _wait_again(self, seq: Sequence) -> None:
        self.preemptions += 1
        seq.untold_preemptions += 1
        served = seq.computed - seq.hits
        self._leave(seq)
        self._place(seq)
        seq.state = "waiting"
        self.waiting.leave(seq, served, again=True)

    def _count_traffic(self, seq: Sequence) -> None:
        if seq.generated:
            self.traffic.ended(
                prompt=len(seq.request.prompt),
                cached=seq.cached_tokens,
                generated=seq.generated,
                shared=self.pool.shared(seq.blocks) * self.pool.block_size,
            )

    def _place(self, seq: Sequence) -> None:
        seq.standing = standing = self._policy.standing(seq)
        seq.order = (*standing, *self._policy.order(seq), seq.id)

    def _leave(self, seq: Sequence) -> None:
        """Out of the running queue, without blocks, and the runner is to be told."""
        self.running.remove(seq)
        if seq.deferred:
            self._deferred.remove(seq)
        self.prefixes.free(seq)
        self.capacity_epoch += 1
        if seq.entered:
            self._left.append(seq.id)
            seq.entered = False
        if self.on_leave is not None:
            self.on_leave(seq)
