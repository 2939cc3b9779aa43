"""Server-sent events of one stream, with the parts that never change encoded once.

Every event of a stream repeats its id, kind, time and model; only the choice differs. So an event
is three joined byte strings, and encoding one token costs a microsecond or so.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headway.server.job import Usage

_encoder = msgspec.json.Encoder()


class Events:
    """Writes the events of one stream; all texts that JSON needs escaped are escaped."""

    def __init__(self, *, id: str, kind: str, created: int, model: str, counts: bool) -> None:  # noqa: A002
        """`counts`: the stream ends with an event of counts, so the others say `usage: null`."""
        head = _encoder.encode({"id": id, "object": kind, "created": created, "model": model})
        self._head = b"data: " + head[:-1]
        self._tail = b'],"usage":null}\n\n' if counts else b"]}\n\n"

    def choice(
        self,
        choice: msgspec.Struct,
        usage: Usage | None = None,
        *,
        prompt_token_ids: Sequence[int] | None = None,
    ) -> bytes:
        """One event with one choice, and the prompt's token ids beside it where they are given."""
        head, tail = self._head, self._tail if usage is None else _counted(usage)
        if prompt_token_ids is not None:
            head += b',"prompt_token_ids":' + _encoder.encode(prompt_token_ids)
        return b"".join((head, b',"choices":[', _encoder.encode(choice), tail))

    def closing(self, usage: Usage) -> bytes:
        """The event with no choice that carries the counts."""
        return b"".join((self._head, b',"choices":[', _counted(usage)))


def _counted(usage: Usage) -> bytes:
    return b'],"usage":' + _encoder.encode(usage) + b"}\n\n"
