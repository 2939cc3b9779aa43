"""The simulator: the shipped engine under a virtual clock, with step times from a profile."""
