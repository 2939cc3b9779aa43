"""The endpoints beside generating: the server's state, its models, and tokens.

`/health` says whether there is an engine or one is being restarted, for whoever restarts servers;
`/ready` whether a request sent now would be served, for whoever routes requests; `/load`,
`/version` and `/metrics` what goes on; `/slo` how large the batch is, and why; `/v1/models` under
which names the one model is served. `/tokenize` and `/detokenize` turn text into token ids and
back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from headway import __version__
from headway.client import ReplicaState
from headway.config import ServerConfig
from headway.errors import InvalidRequest, RequestTooLarge, Unavailable
from headway.llm import AsyncLLM
from headway.logs import line
from headway.server.admission import ServerState
from headway.server.body import convert, json_response, read_body
from headway.server.callers import may_hurry
from headway.server.exposure import check_from_here
from headway.server.logs import log
from headway.server.metrics import Metrics
from headway.server.openai.fit import check_messages
from headway.server.openai.sampling import field_aliases
from headway.server.openai.schema import plain_messages
from headway.server.openai.token_bodies import (
    FOR_CONTENT,
    FOR_MESSAGES,
    DetokenizeBody,
    TokenizeBody,
)
from headway.server.openai.tools import known_tools
from headway.server.slo import Explainer
from headway.steptime.explanation import explain
from headway.types import ServiceClass
from headway.types.objectives import Objective, pace_of, parse_objectives


class HealthStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    status: str
    not_serving: dict[str, ReplicaState] = {}
    """Of several engines, what those do that do not serve now, by their ids; absent where all do.
    """


class ServerLoad(msgspec.Struct, frozen=True, kw_only=True):
    server_load: int
    """HTTP requests in flight that generate, as vLLM counts."""
    continuations: int
    """Of those requests; at most `max_num_queued_reqs`."""
    max_num_queued_reqs: int
    running: int
    waiting: int


class VersionInfo(msgspec.Struct, frozen=True):
    version: str


async def health(request: Request) -> Response:
    state: ServerState = request.app.state.server
    if not state.alive:
        raise Unavailable("the engine is not running" if state.phase != "starting" else "starting")
    return json_response(HealthStatus("ok", _not_serving(state)))


def _not_serving(state: ServerState) -> dict[str, ReplicaState]:
    if state.config.replicas == 1:
        return {}
    replicas = state.llm.client.replicas
    return {str(each.id): each.state for each in replicas if each.state != "ready"}


async def ready(request: Request) -> Response:
    state: ServerState = request.app.state.server
    reason = state.not_ready
    if reason is not None:
        raise Unavailable(f"not ready: {reason}")
    return json_response(HealthStatus("ready", _not_serving(state)))


async def load(request: Request) -> Response:
    state: ServerState = request.app.state.server
    stats = state.llm.client.stats
    return json_response(
        ServerLoad(
            server_load=state.requests,
            continuations=state.continuations,
            max_num_queued_reqs=state.config.max_num_queued_reqs,
            running=stats.running,
            waiting=stats.waiting,
        )
    )


async def version(_request: Request) -> Response:
    return json_response(VersionInfo(__version__))


async def metrics(request: Request) -> Response:
    collected: Metrics = request.app.state.metrics
    return Response(collected.render(), headers={"content-type": CONTENT_TYPE_LATEST})


class ObjectivesQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    objectives: str | None = None
    """Explain the batch as if these were asked of everyone, such as `ttft=1s,tpot=30ms`."""


class ObjectivesBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    objectives: str
    """Of requests that bring none, from now on, such as `ttft=1s,tpot=30ms`; empty: none."""
    service_class: ServiceClass = "standard"


async def slo(request: Request) -> Response:
    explainer = _explainer(request)
    query = convert(dict(request.query_params), ObjectivesQuery, strict=False)
    report = explainer.report()
    if query.objectives is not None:
        asked = parse_objectives(query.objectives, field="objectives")
        situation = explainer.situation(pace_of(asked))
        explanation = None
        if situation is not None:
            explanation = await asyncio.to_thread(explain, situation, asked)
        report = replace(report, explanation=explanation)
    return json_response(report)


async def set_slo(request: Request) -> Response:
    """Change what requests are held to that bring no objectives: for whoever may hurry."""
    explainer = _explainer(request)
    state: ServerState = request.app.state.server
    _check_may_set(request, state.config)
    body = await read_body(request, ObjectivesBody, max_bytes=state.config.max_body_bytes)
    asked: tuple[Objective, ...] = ()
    if body.objectives:
        asked = parse_objectives(body.objectives, field="objectives")
    state.llm.objectives[body.service_class] = asked
    collected: Metrics = request.app.state.metrics
    collected.attainment.describe(state.llm.objectives)
    explainer.forget()
    log.info(
        line("objectives_changed", service_class=body.service_class, objectives=body.objectives)
    )
    return json_response(explainer.report())


def _explainer(request: Request) -> Explainer:
    explainer: Explainer | None = request.app.state.explainer
    if explainer is None:
        raise Unavailable("the server is starting")
    return explainer


def _check_may_set(request: Request, config: ServerConfig) -> None:
    """Raise `InvalidRequest` unless a key, or that it is this machine, says who asks."""
    if config.api_key:
        if not may_hurry(request.scope, config):
            raise InvalidRequest("objectives of others are not set with this API key")
        return
    check_from_here(request.scope, "objectives are set")


class DefaultSamplingCard(msgspec.Struct, frozen=True, kw_only=True):
    """How requests are sampled that leave it open; what is not named is as in the API's docs."""

    chat: dict[str, float]
    completions: dict[str, float]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "headway"
    root: str
    parent: None = None
    max_model_len: int
    default_sampling_params: DefaultSamplingCard


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelCard]


async def list_models(request: Request) -> Response:
    state: ServerState = request.app.state.server
    return json_response(ModelList(data=[_model(state, name) for name in state.names]))


async def get_model(request: Request) -> Response:
    state: ServerState = request.app.state.server
    name = request.path_params["model"]
    state.check_model(name)
    return json_response(_model(state, name))


def _model(state: ServerState, name: str) -> ModelCard:
    defaults = state.default_sampling
    return ModelCard(
        id=name,
        created=state.created,
        root=state.names[0],
        max_model_len=state.llm.max_model_len,
        default_sampling_params=DefaultSamplingCard(
            chat=defaults.chat.given(), completions=defaults.completions.given()
        ),
    )


MAX_DETOKENIZED = 2**18
"""Tokens that are turned into text at once."""
TOKENS_PER_TURN = 2048
"""So many are turned into text before others have their turn on the event loop."""


class TokenPiece(msgspec.Struct, frozen=True):
    """A token as llama.cpp shows it."""

    id: int
    piece: str | list[int]
    """Its text; its bytes, where they are no text by themselves."""


class TokenizeResult(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    max_model_len: int
    tokens: Sequence[int | TokenPiece]
    """Token ids; objects on request (`with_pieces`)."""
    token_strs: list[str] | None = None


class DetokenizeResult(msgspec.Struct, frozen=True):
    prompt: str
    content: str
    """The same: `prompt` is vLLM's word for it, `content` llama.cpp's."""


async def tokenize(request: Request) -> Response:
    state: ServerState = request.app.state.server
    body = await read_body(request, TokenizeBody, max_bytes=state.config.max_body_bytes)
    state.check_model(body.model)
    llm = state.llm
    with field_aliases({"prompt": _check_source(body)}):
        text, special = await _text(llm, body)
        prompt = await llm.encode(text, add_special_tokens=special, must_fit=False)
    tokens: Sequence[int | TokenPiece] = prompt.token_ids
    strings: list[str] | None = None
    if body.return_token_strs:
        strings = []
        async for some in _in_turns(prompt.token_ids):
            strings += map(llm.tokenizer.token_piece, some)
    if body.with_pieces:
        pieces: list[TokenPiece] = []
        async for some in _in_turns(prompt.token_ids):
            pieces += (_piece(llm, token) for token in some)
        tokens = pieces
    return json_response(
        TokenizeResult(
            count=len(tokens),
            max_model_len=llm.max_model_len,
            tokens=tokens,
            token_strs=strings,
        )
    )


async def detokenize(request: Request) -> Response:
    state: ServerState = request.app.state.server
    body = await read_body(request, DetokenizeBody, max_bytes=state.config.max_body_bytes)
    state.check_model(body.model)
    tokenizer = state.llm.tokenizer
    if len(body.tokens) > MAX_DETOKENIZED:
        raise RequestTooLarge(
            f"tokens: {len(body.tokens)} at once; at most {MAX_DETOKENIZED}", field="tokens"
        )
    highest = max(body.tokens, default=0)
    if highest >= tokenizer.vocab_size:
        raise InvalidRequest(f"tokens: {highest} is outside the vocabulary", field="tokens")
    raw = bytearray()
    async for some in _in_turns(body.tokens):
        raw += tokenizer.bytes_of(some)
    text = tokenizer.text_of(bytes(raw))
    return json_response(DetokenizeResult(prompt=text, content=text))


async def _in_turns(tokens: Sequence[int]) -> AsyncIterator[Sequence[int]]:
    """The tokens in parts, between which others have their turn on the event loop."""
    for start in range(0, len(tokens), TOKENS_PER_TURN):
        if start:
            await asyncio.sleep(0)
        yield tokens[start : start + TOKENS_PER_TURN]


def _piece(llm: AsyncLLM, token: int) -> TokenPiece:
    raw = llm.tokenizer.token_bytes(token)
    try:
        return TokenPiece(token, raw.decode())
    except UnicodeDecodeError:
        return TokenPiece(token, list(raw))


def _check_source(body: TokenizeBody) -> str:
    """The field that says what to tokenize; raises for several, and what does not go with it."""
    sources = ("prompt", FOR_MESSAGES[0], FOR_CONTENT[0])
    given = [name for name in sources if getattr(body, name) is not None]
    if len(given) != 1:
        raise InvalidRequest("give one of prompt, messages and content", field="prompt")
    for needed, fields in (("messages", FOR_MESSAGES), ("content", FOR_CONTENT)):
        for name in fields:
            if given[0] != needed and getattr(body, name) is not None:
                raise InvalidRequest(f"{name} needs {needed}", field=name)
    if given[0] == "content" and body.add_special_tokens is not None:
        raise InvalidRequest(
            "add_special_tokens does not go with content; its word is add_special",
            field="add_special_tokens",
        )
    return given[0]


async def _text(llm: AsyncLLM, body: TokenizeBody) -> tuple[str, bool]:
    """What to tokenize, and whether the model's special tokens are added."""
    if body.messages is not None:
        tools = known_tools(body.tools)
        check_messages(body.messages, llm, tools=tools, must_fit=False)
        text = await llm.render(
            plain_messages(body.messages),
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=bool(body.continue_final_message),
            tools=tools,
            variables=body.chat_template_kwargs,
        )
        return text, bool(body.add_special_tokens)
    if body.content is not None:
        return body.content, bool(body.add_special)
    return body.prompt or "", body.add_special_tokens is not False
