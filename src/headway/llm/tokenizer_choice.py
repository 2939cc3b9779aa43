"""Which tokenizer goes with a model: its own, or the one that the settings put in its place."""

from __future__ import annotations

from pathlib import Path

from headway.checkpoint import prepare_tokenizer
from headway.config import EngineConfig
from headway.text import Tokenizer


def load_tokenizer(config: EngineConfig, prepared: Path) -> Tokenizer:
    """The tokenizer of a model that was prepared in this folder.

    Raises `ModelError` where it is unusable, and `ModelNotFound` where the one given is not there.
    """
    given = config.tokenizer
    return Tokenizer.load(prepared if given is None else prepare_tokenizer(given))
