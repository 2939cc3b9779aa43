"""The shipped engine under a virtual clock, on a runner that draws step times from a profile."""
