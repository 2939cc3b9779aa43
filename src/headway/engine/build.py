"""An engine from its settings: runner, scheduler, loop, and what it tells about itself.

The only place that sees both the code that decides and the code that computes; it decides nothing
that either could.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from headway.checkpoint import prepare_tokenizer
from headway.clock import MonotonicClock
from headway.config import EngineConfig
from headway.engine.draft_build import beside_draft, build_draft_model
from headway.engine.grammars import ForcedTokens, GrammarGate
from headway.engine.loop import Engine
from headway.engine.pacing import Pacing
from headway.engine.sizes import sizes_of
from headway.errors import InvalidRequest
from headway.grammar import GrammarCompiler
from headway.logs import line
from headway.recording.format import EngineLine
from headway.recording.recorder import Recorder, RecordFile
from headway.runner import LoadedRunner, build_runner
from headway.runner.peak_rates import keep_exceeded_rates, peak_rates_here
from headway.scheduling.build import build_scheduler, lookup_of, speculation_of
from headway.scheduling.drafts import Proposer
from headway.scheduling.policy import policy_config
from headway.steptime.limits import StepLimit
from headway.steptime.online import step_times_of
from headway.steptime.shape import PeakRates, StepTime, roofline_time
from headway.types import Vocabulary
from headway.types.engine import SchedulerConfig
from headway.wire import EngineInfo, Start

PINNABLE = ("max_num_seqs", "max_num_batched_tokens", "kv_cache_memory")
"""Settings that Headway chooses where nobody does, and that bound the batch."""

logger = logging.getLogger(__name__)


def build_engine(start: Start) -> tuple[Engine, EngineInfo]:
    """An engine for a prepared model, ready to step; raises `HeadwayError` where it cannot be."""
    began = time.monotonic()
    config = start.config
    file = _record_file(start)
    # Before the runner binds this thread to one of them.
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    settings = config if start.draft is None else beside_draft(config)
    loaded = build_runner(
        settings,
        Path(start.prepared),
        tokens=_token_table(start),
        kv_cache_fd=start.kv_cache_fd,
    )
    draft_model = None
    if start.draft is not None:
        if config.pin_threads:
            os.sched_setaffinity(0, cpus)  # of which its threads are to have one each as well
        draft_model = build_draft_model(settings, start.draft, loaded)
    info = describe(config, loaded)
    step_times = None if info.sizes is None else step_times_of(info.sizes, info.machine)
    grammars = loaded.grammars
    proposers = draft_proposers(info.scheduler, grammars, draft_model)
    speculation = speculation_of(info.scheduler.speculation, proposers, step_times)
    scheduler = build_scheduler(
        info.scheduler,
        step_times=step_times,
        speculation=speculation,
        outliving=loaded.kept,
        store=loaded.others,
    )
    info = structs.replace(info, adopted_blocks=scheduler.pool.cached)
    limit = limit_of(info)
    _log_ready(info, seconds=time.monotonic() - began)
    observer = None
    if file is not None:
        first = engine_line(config, info)
        observer = Recorder(engine=first, idle_stats=scheduler.idle_stats, sink=file)
    engine = Engine(
        scheduler=scheduler,
        runner=loaded.runner,
        clock=MonotonicClock(),
        observer=observer,
        ideal=limit,
        on_cycle=None if limit is None else limit.took,
        pacing=Pacing(scheduler.traffic, step_times),
        gate=None if grammars is None else GrammarGate(grammars, cpus=cpus),
    )
    return engine, info


def _log_ready(info: EngineInfo, *, seconds: float) -> None:
    hardware = info.hardware
    logger.info(
        line(
            "engine_ready",
            device=hardware.device,
            dtype=hardware.dtype,
            kv_cache_dtype=hardware.kv_cache_dtype,
            backend=hardware.backend,
            threads=hardware.threads,
            policy=info.scheduler.policy.name,
            blocks=info.scheduler.num_blocks,
            adopted_blocks=info.adopted_blocks,
            seconds=seconds,
        )
    )


def draft_proposers(
    config: SchedulerConfig,
    grammars: GrammarCompiler | None,
    draft_model: Proposer | None = None,
) -> list[Proposer]:
    """Who guesses how sequences go on, the surest first."""
    proposers: list[Proposer] = []
    if config.speculation is None:
        return proposers
    if grammars is not None:
        proposers.append(ForcedTokens(grammars, kept=config.limits.max_num_seqs))
    proposers.append(lookup_of(config.speculation))
    if draft_model is not None:
        proposers.append(draft_model)
    return proposers


def _token_table(start: Start) -> Callable[[int], Vocabulary]:
    """What the tokens stand for; the tokenizer is read once it is asked, for few ever do."""

    def read(size: int) -> Vocabulary:
        from headway.text import Tokenizer

        given = start.config.tokenizer
        folder = Path(start.prepared) if given is None else prepare_tokenizer(given)
        return Tokenizer.load(folder).vocabulary(size)

    return read


def _record_file(start: Start) -> RecordFile | None:
    """Where to record, if anywhere: an engine that is started again does without where it must."""
    path = start.config.record
    if path is None:
        return None
    try:
        return RecordFile(Path(path))
    except InvalidRequest as error:
        if not start.restart:
            raise
        logger.warning("recording to %s has stopped: %s", path, error)
        return None


def describe(config: EngineConfig, loaded: LoadedRunner) -> EngineInfo:
    """What was found and chosen; measures the machine where that was never done."""
    hardware = loaded.hardware
    return EngineInfo(
        hardware=hardware,
        scheduler=SchedulerConfig(
            policy=policy_config(config.policy, config.policy_options),
            limits=loaded.limits,
            num_blocks=loaded.num_blocks,
            block_size=loaded.block_size,
            prefix_caching=config.enable_prefix_caching,
            reservation=config.kv_reservation,
            speculation=config.speculative(),
        ),
        kv_bytes=loaded.kv_bytes,
        weight_bytes=loaded.weight_bytes,
        sizes=sizes_of(
            loaded.model,
            dtype=hardware.dtype,
            kv_cache_dtype=hardware.kv_cache_dtype,
            weight_bytes=loaded.weight_bytes,
        ),
        machine=peak_rates_here(
            device=hardware.device,
            dtype=hardware.dtype,
            threads=hardware.threads,
            isa=hardware.isa,
        ),
        pinned=tuple(name for name in PINNABLE if getattr(config, name) is not None),
        loads_blocks=loaded.others is not None and config.enable_prefix_caching,
    )


def ideal_of(info: EngineInfo) -> StepTime | None:
    """Predicts the seconds of a step at the machine's peak rates, where these are known."""
    if info.sizes is None or info.machine is None:
        return None
    return roofline_time(info.sizes, info.machine)


def limit_of(info: EngineInfo) -> StepLimit | None:
    """The same for figures: rates that steps exceed are raised, and kept for the next start."""
    if info.sizes is None or info.machine is None:
        return None

    def keep(rates: PeakRates) -> None:
        # Not between two steps: a disk may be slow.
        keeping = {"rates": rates, "isa": info.hardware.isa}
        threading.Thread(target=keep_exceeded_rates, kwargs=keeping, daemon=True).start()

    return StepLimit(info.sizes, info.machine, on_raised=keep)


def engine_line(config: EngineConfig, info: EngineInfo) -> EngineLine:
    """The first line of this engine's recording."""
    assert info.sizes is not None, "an engine knows its model"
    return EngineLine(
        model=config.model,
        hardware=info.hardware,
        scheduler=info.scheduler,
        sizes=info.sizes,
        machine=info.machine,
    )
