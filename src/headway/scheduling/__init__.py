"""The mechanism that all policies share: queue, admission, allocation, prefixes, preemption."""
