"""Work that takes long where there is much of it, kept off the event loop then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MANY = 1024
"""Items, messages or blocks that take a few milliseconds, whatever is done with them."""


async def off_loop(much: bool, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """The result of `work`; where there is `much` to do, others have their turns meanwhile.

    `work` may run in another thread, in the context of the caller: it must be pure.
    """
    if much:
        return await asyncio.to_thread(work, *given, **named)
    return work(*given, **named)
