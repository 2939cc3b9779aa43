"""When an engine process counts as hung: it says nothing, or a step of it does not end.

Time is counted in ticks, which the API process's event loop makes while it runs. So an API process
that was stopped, starved or suspended, perhaps together with its engine, does not take its own
absence for the engine's. Pure bookkeeping: no clock, no process.
"""

from __future__ import annotations

from headway.steptime.shape import StepShape, roofline_seconds
from headway.wire import EngineInfo, Heartbeat

TICK = 0.5
"""Seconds between ticks."""
SILENCE_SECONDS = 15.0
"""An engine that runs sends something every second."""
START_SILENCE_SECONDS = 60.0
"""While it starts, importing and loading may keep its heartbeat waiting."""
START_SECONDS = 1800.0
"""From a process's start to its `Ready`, at most."""
LEAST_STEP_TIMEOUT = 30.0
UNKNOWN_STEP_TIMEOUT = 300.0
"""Where the machine's rates are not known."""
SLOWER = 10.0
"""How many times as long as the machine's limits allow for it a step may take, on a machine that
others use as well."""
SLOW_DISK = 50e6
"""Bytes a second. Weights that were pushed out of memory are read again in the midst of a step."""


class EngineWatch:
    """What is known of one engine process's life. `tick` is called every `TICK` seconds."""

    def __init__(self) -> None:
        self.silence = 0.0
        """Seconds since anything was heard from it."""
        self._starting: float | None = 0.0
        self._step_timeout = UNKNOWN_STEP_TIMEOUT
        self._beat = Heartbeat()
        self._watched = 0.0
        """For how long we have seen the present step under way."""

    def ready(self, step_timeout: float) -> None:
        """The engine has started; a step of it may take so many seconds."""
        self._starting = None
        self._step_timeout = step_timeout

    def heard(self) -> None:
        """A message came."""
        self.silence = 0.0

    def on_heartbeat(self, beat: Heartbeat) -> None:
        if beat.step != self._beat.step or beat.seconds is None:
            self._watched = 0.0
        self._beat = beat

    def tick(self) -> str | None:
        """`TICK` seconds have passed; returns why the process counts as hung, if it does."""
        self.silence += TICK
        if self._starting is not None:
            self._starting += TICK
            if self._starting > START_SECONDS:
                return f"not ready after {START_SECONDS:g} s"
            return self._silent(START_SILENCE_SECONDS)
        if self._beat.seconds is not None:
            self._watched += TICK
            # What the engine's clock says includes time in which the whole machine stood still.
            lasted = min(self._beat.seconds, self._watched)
            if lasted > self._step_timeout:
                return f"step {self._beat.step} has not ended in {lasted:.0f} s"
        return self._silent(SILENCE_SECONDS)

    def _silent(self, most: float) -> str | None:
        return f"silent for {self.silence:g} s" if self.silence > most else None


def longest_step(info: EngineInfo) -> float:
    """Seconds after which a step of this engine cannot be one that merely takes long.

    From the largest step that its limits allow, of which every token attends to the longest context
    and every sequence that fits into the KV cache is read.
    """
    sizes, machine = info.sizes, info.machine
    if sizes is None or machine is None:
        return UNKNOWN_STEP_TIMEOUT
    limits = info.scheduler.limits
    tokens, length = limits.max_num_batched_tokens, limits.max_model_len
    positions = info.scheduler.num_blocks * info.scheduler.block_size
    shape = StepShape(
        tokens=tokens,
        sequences=limits.max_num_seqs,
        rows=tokens,
        prefill_pairs=tokens * length,
        prefill_context=positions,
        prefill_pairs_window=tokens * length,
        prefill_context_window=positions,
    )
    cold = info.weight_bytes / SLOW_DISK
    return max(LEAST_STEP_TIMEOUT, SLOWER * roofline_seconds(shape, sizes, machine) + cold)
