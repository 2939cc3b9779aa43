"""A scheduler from its settings: the one place where an engine, a simulation and a replay get it.

What a policy's parameters are stands in the policy's own file; here its settings become a policy.
"""

from __future__ import annotations

from headway.scheduling.admission import LengthEstimate
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.drafts import Proposer
from headway.scheduling.policy import make_policy
from headway.scheduling.scheduler import Scheduler
from headway.steptime.online import StepTimes
from headway.types.engine import SchedulerConfig


def build_scheduler(
    config: SchedulerConfig,
    *,
    lengths: LengthEstimate | None = None,
    step_times: StepTimes | None = None,
    proposer: Proposer | None = None,
    draft_sequences: int | None = None,
) -> Scheduler:
    """A scheduler with no requests and an empty pool of blocks.

    `lengths` is what it expects of requests that end by themselves (None: it learns from zero).
    Policies plan with `step_times`, which learn from its steps; with a `proposer`, decodes compute
    its drafts too, in steps of at most `draft_sequences` sequences (None: in any).
    Raises `InvalidRequest` for a policy or a parameter that there is none of.
    """
    scheduler = Scheduler(
        policy=make_policy(config.policy),
        pool=BlockPool(num_blocks=config.num_blocks, block_size=config.block_size),
        limits=config.limits,
        prefix_caching=config.prefix_caching,
        lengths=lengths,
        reserve_all=config.reservation == "full",
        step_times=step_times,
        proposer=proposer,
    )
    if draft_sequences is not None:
        scheduler.draft_sequences = draft_sequences
    return scheduler
