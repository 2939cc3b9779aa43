"""Opens a prepared model: its engine, its tokenizer and its chat template, at the same time."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

from headway.checkpoint import Prepared
from headway.client import EngineClient, EngineHandle
from headway.client.fleet import PLACE, EngineFleet
from headway.client.response_cache.keys import KEY_BYTES, fingerprint_of
from headway.config import EngineConfig
from headway.errors import HeadwayError
from headway.llm.draft_model import is_damaged
from headway.llm.message_form import MessageForm
from headway.llm.model_check import stoppable
from headway.llm.rendering import ChatRenderer
from headway.llm.replicas import shared_settings
from headway.llm.served_model import code_of
from headway.llm.tokenizer_choice import load_tokenizer
from headway.text import Tokenizer
from headway.types.engine import Hardware
from headway.types.fleet import FleetConfig, parse_roles
from headway.wire import PreparedDraft

T = TypeVar("T")

logger = logging.getLogger(__name__)


class OpenedModel(NamedTuple):
    """What answers are made with."""

    client: EngineHandle
    tokenizer: Tokenizer
    chat_template: ChatRenderer | None
    """None for a model that has none."""


async def open_model(
    config: EngineConfig,
    prepared: Prepared,
    draft: PreparedDraft | None = None,
    *,
    command: Sequence[str] | None,
    chat_template: str | None,
    form_of: Callable[[str | None], MessageForm],
    fleet: FleetConfig,
) -> OpenedModel:
    """Start the engines of a prepared model and read its text side; nothing is left if that fails.

    `command` replaces the engine program, `chat_template` the model's own, and `form_of` says how a
    model with such a template writes messages. Raises `HeadwayError` for what cannot be had.
    """
    # The engines load weights while the tokenizer is read here.
    starting = asyncio.create_task(  # awaited
        start_engines(config, prepared, draft, command=command, fleet=fleet)
    )
    try:
        tokenizer = await asyncio.to_thread(load_tokenizer, config, prepared.folder)
        source = tokenizer.config.chat_template if chat_template is None else chat_template
        template = None
        if source is not None:
            template = await ChatRenderer.load(source, tokenizer.config, form_of(source))
    except BaseException:
        starting.cancel()
        (started,) = await asyncio.gather(starting, return_exceptions=True)
        if not isinstance(started, BaseException):
            await started.close()
        raise
    try:
        client = await starting
    except BaseException:
        if template is not None:
            await template.close()
        raise
    return OpenedModel(client, tokenizer, template)


async def start_engines(
    config: EngineConfig,
    prepared: Prepared,
    draft: PreparedDraft | None,
    *,
    command: Sequence[str] | None,
    fleet: FleetConfig,
) -> EngineHandle:
    """One engine, or several behind a router; raises `HeadwayError` where they cannot start."""
    if fleet.replicas == 1:
        if config.record is not None:
            config = replace(config, record=config.record.replace(PLACE, "0"))
        return await EngineClient.start(config, prepared.folder, draft=draft, command=command)
    return await EngineFleet.start(
        shared_settings(config, fleet.replicas),
        prepared.folder,
        replicas=fleet.replicas,
        router=fleet.router,
        roles=parse_roles(fleet.roles),
        fixed_roles=fleet.fixed_roles,
        draft=draft,
        command=command,
    )


async def start_sound(
    ready: Callable[..., tuple[EngineConfig, Prepared, PreparedDraft | None]],
    start: Callable[[EngineConfig, Prepared, PreparedDraft | None], Awaitable[T]],
) -> tuple[T, EngineConfig, Prepared]:
    """Get a model ready and start it: once more, prepared anew, if it is damaged and so cannot.

    `ready` takes `stop`, an event, and `verify`; it gives settings with nothing left open, the
    model, and its draft model if it has one. Raises `HeadwayError` where it cannot be had.
    """
    settled, prepared, draft = await stoppable(lambda stop: ready(stop=stop))
    try:
        return await start(settled, prepared, draft), settled, prepared
    except HeadwayError as error:
        if error.field is not None:  # a setting is at fault, not the model
            raise
        if not await stoppable(partial(is_damaged, prepared, draft)):
            raise
        logger.warning("the engine did not start from a damaged model: %s", error)
    settled, prepared, draft = await stoppable(lambda stop: ready(verify=True, stop=stop))
    return await start(settled, prepared, draft), settled, prepared


def fingerprint_of_model(config: EngineConfig, prepared: Prepared, hardware: Hardware) -> bytes:
    """What tells the answers of this model, computed by this hardware, from all others."""
    manifest = prepared.manifest
    if manifest is None:  # its contents are not known, so nobody else has the same
        return os.urandom(KEY_BYTES)
    files = [(name, record.sha256) for name, record in manifest.files.items()]
    return fingerprint_of(files, hardware, tokenizer=config.tokenizer, version=code_of(hardware))
