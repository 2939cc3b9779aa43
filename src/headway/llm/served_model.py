"""A name for what is served: the model, and how exactly it is computed."""

from __future__ import annotations

import hashlib

import msgspec

from headway import __version__, native
from headway.checkpoint import Prepared
from headway.types.engine import Hardware


def fingerprint(prepared: Prepared, hardware: Hardware) -> str:
    """Equal where the same request gives the same answer: OpenAI's `system_fingerprint`.

    It is made from the digests of the model's files, how they are computed (formats, backend,
    instruction set), and `code_of` that computes them.
    """
    manifest = prepared.manifest
    files = [] if manifest is None else sorted((n, f.sha256) for n, f in manifest.files.items())
    computed = (hardware.device, hardware.dtype, hardware.kv_cache_dtype, hardware.backend)
    facts = (code_of(hardware), prepared.config, prepared.weight_bytes, files, computed)
    return "fp_" + hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:16]


def code_of(hardware: Hardware) -> str:
    """The version of this package, and a digest of its native kernels where they compute.

    Kernels of one version may round differently: built by another compiler, or from sources that
    somebody changed. Reads the library, which takes milliseconds.
    """
    return f"{__version__} {native.digest_of()}" if hardware.isa else __version__
