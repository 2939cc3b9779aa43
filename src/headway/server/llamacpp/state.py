"""What llama.cpp's web pages and clients ask first: `/props`, `/slots`, `/apply-template`.

A slot of llama.cpp is a place for one sequence, as one of ours is; but which sequence has which is
decided anew at every admission, so of a slot no more is told than whether one is in use.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway import __version__
from headway.errors import Unavailable
from headway.llm import AsyncLLM
from headway.server.admission import ServerState
from headway.server.body import json_response, read_body
from headway.server.llamacpp.formatter import settings_of
from headway.server.llamacpp.schema import LlamaSettings, LlamaTemplateBody, LlamaTemplateResult
from headway.server.openai.fit import check_messages
from headway.server.openai.schema import plain_messages
from headway.server.openai.tools import known_tools
from headway.types import SamplingParams


class LlamaSlot(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    n_ctx: int
    """A sequence may have as many tokens, prompt and answer together."""
    speculative: bool = False
    is_processing: bool


class LlamaDefaults(msgspec.Struct, frozen=True, kw_only=True):
    id: int = 0
    n_ctx: int
    speculative: bool = False
    is_processing: bool = False
    params: LlamaSettings


class LlamaModalities(msgspec.Struct, frozen=True, kw_only=True):
    vision: bool = False
    audio: bool = False


class LlamaProps(msgspec.Struct, frozen=True, kw_only=True):
    default_generation_settings: LlamaDefaults
    total_slots: int
    model_alias: str
    model_path: str
    """The model's name: where its files are is not told."""
    chat_template: str
    """Empty for a model that has none."""
    chat_template_caps: dict[str, bool]
    modalities: LlamaModalities = LlamaModalities()
    bos_token: str
    eos_token: str
    build_info: str
    is_sleeping: bool = False


async def llama_props(request: Request) -> Response:
    """The server's settings, and how requests are sampled that leave it open."""
    state: ServerState = request.app.state.server
    llm = state.llm
    text = llm.tokenizer.config
    params = SamplingParams(**state.default_sampling.chat.given() | {"max_tokens": None})
    settings = settings_of(params, n_ctx=llm.max_model_len, model=state.names[0])
    return json_response(
        LlamaProps(
            default_generation_settings=LlamaDefaults(
                n_ctx=llm.max_model_len, speculative=_speculates(llm), params=settings
            ),
            total_slots=_slots(llm),
            model_alias=state.names[0],
            model_path=llm.model_config.name,
            chat_template="" if llm.chat_template is None else llm.chat_template.source,
            chat_template_caps=_caps(llm),
            bos_token=text.bos_token,
            eos_token=text.eos_token,
            build_info=f"headway-{__version__}",
        )
    )


async def llama_slots(request: Request) -> Response:
    """All slots, those in use first; with `fail_on_no_slot` 503 where all are."""
    state: ServerState = request.app.state.server
    llm = state.llm
    running, slots, speculates = llm.client.stats.running, _slots(llm), _speculates(llm)
    if running >= slots and request.query_params.get("fail_on_no_slot", "") not in ("", "0"):
        raise Unavailable("no slot is available")
    return json_response(
        [
            LlamaSlot(
                id=place,
                n_ctx=llm.max_model_len,
                speculative=speculates,
                is_processing=place < running,
            )
            for place in range(slots)
        ]
    )


async def apply_template(request: Request) -> Response:
    """A conversation as the text of a prompt, which `/completion` takes."""
    state: ServerState = request.app.state.server
    body = await read_body(request, LlamaTemplateBody, max_bytes=state.config.max_body_bytes)
    state.check_model(body.model)
    tools = known_tools(body.tools)
    check_messages(body.messages, state.llm, tools=tools, must_fit=False)
    text = await state.llm.render(
        plain_messages(body.messages),
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=bool(body.continue_final_message),
        tools=tools,
        variables=body.chat_template_kwargs,
    )
    return json_response(LlamaTemplateResult(text))


def _slots(llm: AsyncLLM) -> int:
    return llm.client.info.scheduler.limits.max_num_seqs


def _speculates(llm: AsyncLLM) -> bool:
    speculation = llm.client.info.scheduler.speculation
    return speculation is not None and speculation.most > 0


def _caps(llm: AsyncLLM) -> dict[str, bool]:
    """What conversations may have; where the template shows no tools, the prompt describes them."""
    if llm.chat_template is None:
        return {}
    return {"supports_tools": True, "supports_tool_calls": True}
