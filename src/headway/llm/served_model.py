"""What is served: a model's tokenizer, and a name for how exactly it is computed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from headway import __version__
from headway.checkpoint import Prepared, prepare_tokenizer
from headway.config import EngineConfig
from headway.text import Tokenizer
from headway.types.engine import Hardware


def load_tokenizer(config: EngineConfig, prepared: Path) -> Tokenizer:
    """The model's own tokenizer, or the one that the settings put in its place."""
    given = config.tokenizer
    return Tokenizer.load(prepared if given is None else prepare_tokenizer(given))


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
