"""The one road of a conversation: from a chat's body to its answer, whatever the dialect.

A dialect translates its request into a `ChatBody` and gives a formatter for the answer; admission,
rendering, encoding and generating are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Send

from headway.llm import AsyncLLM, GenerationRequest, MessageReader, prompt_end
from headway.message import ToolUse
from headway.server.admission import RequestHandle, ServerState
from headway.server.callers import owner_of, priority_of, tenant_of
from headway.server.formatter import Formatter
from headway.server.generate import EVENT_STREAM, client_watched, respond
from headway.server.openai.constraint import constrained, constraint_field
from headway.server.openai.effort import (
    BUDGET_FIELDS,
    budget_field,
    template_variables,
    with_thinking_budget,
)
from headway.server.openai.fit import (
    check_length,
    check_messages,
    check_scores,
    room_for_answer,
)
from headway.server.openai.prediction import predicted_tokens
from headway.server.openai.sampling import (
    chat_params,
    check_streaming,
    field_aliases,
    length_field,
    renamed,
)
from headway.server.openai.schema import ChatBody, plain_messages
from headway.server.openai.service import service_of
from headway.server.openai.tools import told_tools, tool_use_of
from headway.types import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation that was admitted and is about to be answered: what formatters need."""

    body: ChatBody
    use: ToolUse | None
    """What it asks of its tools."""
    generation: GenerationRequest
    llm: AsyncLLM
    model: str
    """The name under which the model is served."""

    def reader(self) -> MessageReader:
        """Reads the answer's deltas as parts of messages."""
        form, use = self.llm.message_form, self.use
        tail = prompt_end(self.llm.tokenizer, self.generation.prompts[0].token_ids)
        return MessageReader(lambda: form.new_parser(use, prompt=tail))


async def answer_conversation(
    request: Request,
    send: Send,
    body: ChatBody,
    request_id: str,
    new_formatter: Callable[[Conversation], Formatter],
    *,
    names: Mapping[str, str] | None = None,
    stream_type: str = EVENT_STREAM,
) -> None:
    """Answer a conversation: admit, render and encode, generate.

    Errors name the fields of `body`; where the client's own have other names, `names` maps one to
    the other. `stream_type` is the content type of the formatter's events.
    """
    state: ServerState = request.app.state.server
    own = names or {}
    with field_aliases(own):
        state.check_model(body.model)
        check_streaming(body)
        params = chat_params(body, state.default_sampling.chat)
        use = tool_use_of(body)
    with state.admit(request_id, params.n) as handle:
        with field_aliases(own):
            generation = await prepare_conversation(request, handle, body, params, use)
        conversation = Conversation(
            body=body, use=use, generation=generation, llm=state.llm, model=state.names[0]
        )
        formatter = new_formatter(conversation)
        # A grammar may outgrow its limits only while an answer is generated.
        grammar = {"structured_outputs": constraint_field(body, use)}
        await respond(
            request,
            send,
            handle,
            generation,
            formatter,
            stream=stream_type if body.stream else None,
            user=body.user,
            as_told=lambda error: renamed(error, grammar, own),
        )


async def prepare_conversation(
    request: Request,
    handle: RequestHandle,
    body: ChatBody,
    params: SamplingParams,
    use: ToolUse | None,
) -> GenerationRequest:
    """What the engine is asked for; raises `InvalidRequest` or its kin with the field to mend."""
    state: ServerState = request.app.state.server
    llm = state.llm
    priority = priority_of(request.scope, state.config, body.priority)
    service = service_of(request.scope, state, body)
    params = with_thinking_budget(params, body, llm, default=state.config.reasoning_budget)
    tools = told_tools(body)
    check_messages(body.messages, llm, tools=tools)
    aliases = {"prompt": "messages", BUDGET_FIELDS[0]: budget_field(body)}
    with field_aliases(aliases), client_watched(request, handle):
        text = await llm.render(
            plain_messages(body.messages),
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=bool(body.continue_final_message),
            tools=tools,
            variables=template_variables(body, llm),
        )
        tenant = tenant_of(request.scope)
        params = await constrained(params, body, use, llm, prompt=text, tenant=tenant)
        prompt = await llm.encode(
            text,
            add_special_tokens=bool(body.add_special_tokens),
            truncate_to=room_for_answer(body.truncate_prompt_tokens, params.max_tokens, llm),
            keep_first=body.truncation_side == "right",
        )
        prediction = await predicted_tokens(body, llm)
        generation = llm.resolve(
            prompt,
            params=params,
            request_id=handle.id,
            priority=priority,
            owner=owner_of(request.scope, handle.id, body.user),
            cache_salt=body.cache_salt or "",
            objectives=service.objectives,
            service_class=service.service_class,
            prediction=prediction,
        )
    check_length(generation, llm, asked=length_field(body))
    check_scores(generation, asked="prompt_logprobs", answer="top_logprobs")
    return generation
