"""A scheduler from its settings: the one place where an engine, a simulation and a replay get it.

What a policy's parameters are stands in the policy's own file; here its settings become a policy.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from headway.scheduling.admission import LengthEstimate
from headway.scheduling.block_pool import BlockPool, BlockStore, SealedBlocks
from headway.scheduling.drafts import Proposer
from headway.scheduling.policy import make_policy
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.speculation.paying import PayingDrafts
from headway.scheduling.speculation.prompt_lookup import PromptLookup
from headway.scheduling.speculation.speculation import Speculation
from headway.steptime.online import StepTimes
from headway.types.engine import SchedulerConfig
from headway.types.speculation import MOST_BATCH, SpeculativeConfig


def build_scheduler(
    config: SchedulerConfig,
    *,
    lengths: LengthEstimate | None = None,
    step_times: StepTimes | None = None,
    speculation: Speculation | None = None,
    outliving: SealedBlocks | None = None,
    store: BlockStore | None = None,
) -> Scheduler:
    """A scheduler with no requests, and a pool with no blocks in use.

    `outliving` are the blocks of a KV cache that outlives the engine (None: they are all empty),
    and blocks of requests that come from other engines are loaded from `store` (None: computed).

    `lengths` is what it expects of requests that end by themselves (None: it learns from zero).
    Policies plan with `step_times`, which learn from its steps; with `speculation`, decodes compute
    its drafts too. Raises `InvalidRequest` for a policy or a parameter that there is none of.
    """
    return Scheduler(
        policy=make_policy(config.policy),
        pool=BlockPool(
            num_blocks=config.num_blocks,
            block_size=config.block_size,
            outliving=outliving,
            store=store,
        ),
        limits=config.limits,
        prefix_caching=config.prefix_caching,
        lengths=lengths,
        reserve_all=config.reservation == "full",
        step_times=step_times,
        speculation=speculation,
    )


def lookup_of(config: SpeculativeConfig) -> PromptLookup:
    """What looks for drafts in texts: in those that requests predict, whatever the method, and with
    the method "ngram" in prompts and answers too."""
    return PromptLookup(
        longest=config.prompt_lookup_max,
        least=config.prompt_lookup_min,
        predicted_only=config.method != "ngram",
    )


def speculation_of(
    config: SpeculativeConfig | None, proposers: Seq[Proposer], step_times: StepTimes | None
) -> Speculation | None:
    """The drafts that pay, from these proposers in this order; None where there are none.

    `step_times` are those of the scheduler, which predict its steps.
    """
    if config is None or not config.most or not proposers:
        return None
    most = config.disable_by_batch_size
    return Speculation(
        proposers,
        PayingDrafts(step_times),
        most=config.most,
        most_sequences=MOST_BATCH if most is None else most,
    )
