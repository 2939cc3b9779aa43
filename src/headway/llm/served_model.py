"""A name for what is served: the model, and how exactly it is computed."""

from __future__ import annotations

import hashlib

import msgspec

from headway import __version__
from headway.checkpoint import Prepared
from headway.types.engine import Hardware


def fingerprint(prepared: Prepared, hardware: Hardware) -> str:
    """Equal where the same request gives the same answer: OpenAI's `system_fingerprint`.

    It is made from the digests of the model's files, how they are computed (formats, backend,
    instruction set), and the version of this package.
    """
    manifest = prepared.manifest
    files = [] if manifest is None else sorted((n, f.sha256) for n, f in manifest.files.items())
    computed = (hardware.device, hardware.dtype, hardware.kv_cache_dtype, hardware.backend)
    facts = (__version__, prepared.config, prepared.weight_bytes, files, computed)
    return "fp_" + hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:16]
