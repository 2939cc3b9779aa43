"""Who wants to hear of something, told one after the other, none at another's expense."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")

logger = logging.getLogger(__name__)


class Listeners(Generic[P]):
    """Callbacks of one kind. An exception that one raises is logged and otherwise ignored."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[P, None]] = []

    def __len__(self) -> int:
        return len(self._callbacks)

    def add(self, callback: Callable[P, None]) -> Callable[[], None]:
        """Call it from now on; returns how to stop that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call all of them."""
        for callback in self._callbacks:
            try:
                callback(*args, **kwargs)
            except Exception:
                logger.exception("a listener failed")
