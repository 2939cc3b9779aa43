"""The draft model that the settings name, found, prepared and checked before an engine starts.

It guesses token ids, so it must mean the same by them as the model that it drafts for. For the
native kernels it is stored in eight bits, or in four where the settings say so, whatever the format
of the other: what it loses is a few right guesses, and what it wins is time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from headway.checkpoint import Prepared, damaged_files
from headway.checkpoint.prepared import TOKENIZER
from headway.config import EngineConfig
from headway.errors import InvalidRequest, ModelError, ModelNotFound
from headway.llm.tokenizer_choice import load_tokenizer
from headway.llm.weight_format import ready_model
from headway.text import Tokenizer
from headway.wire import PreparedDraft

FIELD = "speculative_config"


def with_draft(
    ready: Callable[..., tuple[EngineConfig, Prepared]], config: EngineConfig, **how: Any
) -> tuple[EngineConfig, Prepared, PreparedDraft | None]:
    """What `ready` gives, which is `ready_model` or stands in for it, and the draft model.

    `how` is for both; see `ready_draft`.
    """
    settled, prepared = ready(config, **how)
    return settled, prepared, ready_draft(config, settled, prepared, **how)


def is_damaged(prepared: Prepared, draft: PreparedDraft | None, stop: threading.Event) -> bool:
    """Whether files of a model, or of its draft model, are not what was written; reads them all."""
    folders = [prepared.folder] if draft is None else [prepared.folder, Path(draft.prepared)]
    return any(damaged_files(folder, stop=stop) for folder in folders)


def ready_draft(
    config: EngineConfig,
    settled: EngineConfig,
    prepared: Prepared,
    *,
    progress: bool = True,
    verify: bool = False,
    stop: threading.Event | None = None,
) -> PreparedDraft | None:
    """The draft model prepared as the settings want it; None where they want none.

    `settled` are the settings with what was chosen for the model itself, which is `prepared`; the
    others are those of `headway.llm.weight_format.ready_model`. Raises as that does, with the
    setting that names the draft model, and `InvalidRequest` for one with another vocabulary.
    """
    name = config.speculative().model
    if name is None:
        return None
    dtype = config.dtype
    if settled.backend == "native" and dtype != "int4":
        dtype = "int8"
    asked = replace(
        config,
        model=name,
        tokenizer=None,
        backend=settled.backend,
        device=settled.device,
        dtype=dtype,
    )
    try:
        chosen, draft = ready_model(asked, progress=progress, verify=verify, stop=stop)
    except (InvalidRequest, ModelError, ModelNotFound) as error:
        raise type(error)(f"{FIELD}: the draft model: {error.message}", field=FIELD) from error
    check_same_tokens(config, prepared, draft)
    return PreparedDraft(
        prepared=str(draft.folder), dtype=chosen.dtype, kv_cache_dtype=chosen.kv_cache_dtype
    )


def check_same_tokens(config: EngineConfig, prepared: Prepared, draft: Prepared) -> None:
    """Raise `InvalidRequest` where a draft model means something else by some token.

    An id for which one of the two has no token is never sampled for a text, and may differ.
    """
    size, other = prepared.config.vocab_size, draft.config.vocab_size
    reason = f"{other} tokens, and not {size}"
    if size == other:
        same_file = (
            config.tokenizer is None
            and (prepared.folder / TOKENIZER).read_bytes()
            == (draft.folder / TOKENIZER).read_bytes()
        )
        if same_file:
            return
        ours, theirs = load_tokenizer(config, prepared.folder), Tokenizer.load(draft.folder)
        token = _first_other(ours, theirs, size)
        if token is None:
            return
        pieces = ours.token_text(token), theirs.token_text(token)
        reason = f"token {token} is {pieces[1]!r}, and not {pieces[0]!r}"
    raise InvalidRequest(
        f"{FIELD}: the draft model {draft.config.name} has another vocabulary than "
        f"{prepared.config.name}: {reason}; choose a smaller model of the same family",
        field=FIELD,
    )


def _first_other(ours: Tokenizer, theirs: Tokenizer, size: int) -> int | None:
    """The first token that stands for other bytes in each; None if there is none."""
    for token in range(size):
        mine, other = ours.token_bytes(token), theirs.token_bytes(token)
        if mine != other and mine and other:
            return token
    return None
