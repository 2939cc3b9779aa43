"""Hostile clients and failing machines: scripts against a running server, also run small.

`python -m tests.hostile.attacks URL` attacks any server that runs; `python -m tests.hostile.mixed`
starts one and attacks it beside well-behaved streams; `python -m tests.hostile.faults` breaks the
machine under it. Each prints what it saw, and ends with 1 where something was lost.
"""
