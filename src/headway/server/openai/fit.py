"""What a body asks, against what the model and its context can give: refused before any work.

Nothing is cut short in silence: tokens that were asked for and cannot fit are an error, as in vLLM,
and so are fields of messages that the chat template never shows. Sizes are compared, nothing is
rendered or encoded here. Errors name the field that the client used.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headway.errors import InvalidRequest, RequestTooLarge
from headway.llm import AsyncLLM, GenerationRequest
from headway.llm.prompt import MAX_TOKEN_CHARACTERS
from headway.message import Tool
from headway.server.openai.schema import Message
from headway.types.sampling import WHOLE_VOCABULARY

NOT_LOST = ("name",)
"""Fields of messages that change what is said: refused where no template shows them."""
MAX_SCORES = 2**20
"""Log probabilities in one answer: those of prompts, counted in every choice that repeats them, or
those of the whole vocabulary after each token."""


def check_messages(
    messages: Sequence[Message],
    llm: AsyncLLM,
    *,
    tools: Sequence[Tool] = (),
    must_fit: bool = True,
) -> None:
    """Raise for a conversation that cannot fit however it is rendered, or has fields for nothing.

    Templates show each message with at least a token of their own. One that need not fit is only
    to be counted, and may be somewhat longer.
    """
    most = MAX_TOKEN_CHARACTERS * llm.max_model_len
    size = sum(_characters(message) for message in messages)
    told = len(msgspec.json.encode(tools))
    if told > most:
        raise RequestTooLarge(
            f"tools: {told} bytes of JSON cannot fit in the context of {llm.max_model_len} tokens",
            field="tools",
        )
    if (must_fit and len(messages) > llm.max_model_len) or size > most:
        raise RequestTooLarge(
            f"{len(messages)} messages of {size} characters together cannot fit in the context "
            f"of {llm.max_model_len} tokens",
            field="messages",
        )
    for position, message in enumerate(messages):
        # Templates join texts: a turn of nothing is one only where calls or an answer come with it.
        if message.content is None and message.role != "assistant":
            field = f"messages[{position}].content"
            raise InvalidRequest(f"{field} is required", field=field)
    if llm.chat_template is None:
        return
    for name in NOT_LOST:
        if llm.chat_template.reads(name):
            continue
        for position, message in enumerate(messages):
            # A result may say whose it is; calls have said so already.
            if getattr(message, name) and message.role != "tool":
                field = f"messages[{position}].{name}"
                raise InvalidRequest(
                    f"{field}: this model's chat template does not show it; leave it out, or say "
                    f"it in the content",
                    field=field,
                )


def room_for_answer(truncate_to: int | None, max_tokens: int | None, llm: AsyncLLM) -> int | None:
    """`truncate_prompt_tokens` with -1, as many as fit, made to leave room for `max_tokens`."""
    if truncate_to != -1 or max_tokens is None or max_tokens >= llm.max_model_len:
        return truncate_to
    return llm.max_model_len - max_tokens


def check_length(generation: GenerationRequest, llm: AsyncLLM, *, asked: str | None) -> None:
    """Raise `RequestTooLarge` where more tokens are wanted than fit after the longest prompt.

    `asked` is the field that the client gave `max_tokens` in, None if it was left open: then as
    many are generated as fit.
    """
    prompt = max(len(each.token_ids) for each in generation.prompts)
    room = llm.max_model_len - prompt
    wanted = {"min_tokens": generation.params.min_tokens}
    if asked is not None:
        wanted = {asked: generation.params.max_tokens or 0}
    for field, number in wanted.items():
        if number > room:
            raise RequestTooLarge(
                f"{field}: {number} tokens do not fit after a prompt of {prompt} in the context "
                f"of {llm.max_model_len}; ask for {room} at most",
                field=field,
            )


def check_scores(generation: GenerationRequest, *, asked: str, answer: str = "logprobs") -> None:
    """Raise `InvalidRequest` for more log probabilities than one answer may hold.

    `asked` is the field that asked for those of prompts, `answer` for those of the answer: of the
    latter only those of the whole vocabulary can be too many.
    """
    params = generation.params
    top = generation.requests[0].sampling.prompt_logprobs
    if top is not None:
        tokens = sum(len(prompt.token_ids) for prompt in generation.prompts) * params.n
        _check_number(tokens * (top + 1), asked, "prompt tokens (tokens times alternatives")
    if params.logprobs == WHOLE_VOCABULARY:
        each = (request.sampling for request in generation.requests)
        scores = sum(one.max_tokens * ((one.logprobs or 0) + 1) for one in each)
        _check_number(scores, answer, "generated tokens (max_tokens times the vocabulary")


def _check_number(scores: int, field: str, what: str) -> None:
    if scores > MAX_SCORES:
        raise InvalidRequest(
            f"{field}: {scores:,} log probabilities of {what} times n) are more than "
            f"{MAX_SCORES:,}; ask for fewer at once",
            field=field,
        )


def _characters(message: Message) -> int:
    content = message.content or ""
    own = len(content) if isinstance(content, str) else sum(len(part.text) for part in content)
    calls = sum(len(str(call.function.arguments)) for call in message.tool_calls or ())
    return own + calls + len(message.reasoning_content or "") + len(message.reasoning or "")
