"""The mechanism that all policies share: queue, admission, allocation, prefixes, preemption."""

from headway.scheduling.admission import LengthEstimate
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.stats import Idle, SchedulerStats

__all__ = ["Idle", "LengthEstimate", "Scheduler", "SchedulerStats"]
