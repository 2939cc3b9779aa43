"""The key of a request: equal for requests whose tokens must be equal, different for all others.

With temperature 0, or with a seed that the caller gave, the tokens of an answer are a function of
the model, the prompt and the sampling. These are in the key, and whose answer it is. Not in it is
what only says when an answer is wanted: arrival, priority, objectives, the names of caller and
request; nor stop strings, since the engine knows no text.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import msgspec

from headway.types import Request
from headway.types.engine import Hardware

KEY_BYTES = 32
_VERSION = 1
"""Raised whenever keys or kept answers change their meaning."""

_encode = msgspec.msgpack.Encoder().encode


def fingerprint_of(
    files: Sequence[tuple[str, str]],
    hardware: Hardware,
    *,
    tokenizer: str | None = None,
    version: str = "",
) -> bytes:
    """A digest of all that tokens depend on beside the request.

    `files` are the names and digests of the model's files, `hardware` is what computes them, in
    which formats, `tokenizer` what replaces the model's own, `version` that of the code.
    """
    told = (_VERSION, version, sorted(files), hardware, tokenizer)
    return blake2b(_encode(told), digest_size=KEY_BYTES).digest()


class CacheKeys:
    """Makes the keys of requests to one model."""

    def __init__(self, fingerprint: bytes, *, shared: bool = False) -> None:
        """`shared`: tenants get each other's answers; a `cache_salt` separates in any case."""
        self._model = blake2b(fingerprint, digest_size=KEY_BYTES)
        self._shared = shared

    def of(self, requests: Sequence[Request]) -> list[bytes]:
        """One key for each request, of `KEY_BYTES` bytes."""
        prompts: dict[int, bytes] = {}
        keys = []
        for request in requests:
            # The continuations of a prompt share it, and it may be long.
            prompt = prompts.get(id(request.prompt))
            if prompt is None:
                prompt = prompts[id(request.prompt)] = _digest(request.prompt)
            keys.append(self._key(request, prompt))
        return keys

    def _key(self, request: Request, prompt: bytes) -> bytes:
        sampling = request.sampling
        if sampling.temperature == 0.0:
            sampling = replace(sampling, seed=0)
        tenant = None if self._shared else request.tenant
        made = self._model.copy()
        made.update(prompt)
        made.update(_encode((tenant, request.cache_salt, sampling)))
        return made.digest()


def _digest(prompt: tuple[int, ...]) -> bytes:
    return blake2b(array("i", prompt).tobytes(), digest_size=KEY_BYTES).digest()
