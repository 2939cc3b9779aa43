"""The mechanism that all policies share: queue, admission, allocation, prefixes, preemption."""

from headway.scheduler.lengths import LengthEstimate
from headway.scheduler.scheduler import Scheduler
from headway.scheduler.stats import Idle, SchedulerStats

__all__ = ["Idle", "LengthEstimate", "Scheduler", "SchedulerStats"]
