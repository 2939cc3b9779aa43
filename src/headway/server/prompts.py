"""From what a body gives as prompt, or as messages, to token ids.

Knows the tokenizer and the chat template, and neither sampling nor answers.
"""

from __future__ import annotations

from typing import Any

from headway.errors import InvalidRequest, RequestTooLarge
from headway.server.backend import Backend
from headway.server.schema import Message

LONGEST_TOKEN = 128
"""Characters per token that no real text reaches: what is longer than the context times this
cannot fit, and is refused without being tokenized."""


def split_prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """The prompts of a completion body: texts or token ids, in order."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequest("prompt is empty", field="prompt")
    if len({type(item) for item in prompt}) > 1:
        raise InvalidRequest(
            "prompt mixes texts, token ids and lists; give one kind", field="prompt"
        )
    ids = [item for item in prompt if isinstance(item, int)]
    if ids:
        return [ids]
    prompts: list[str | list[int]] = [item for item in prompt if not isinstance(item, int)]
    for position, item in enumerate(prompts):
        if not item:
            raise InvalidRequest("an empty prompt", field=f"prompt[{position}]")
    return prompts


async def encode(
    backend: Backend, prompt: str | list[int], *, special: bool, keep: int | None, field: str
) -> list[int]:
    """Token ids of one prompt, its last `keep` where that is given (-1: as many as fit)."""
    if isinstance(prompt, str):
        if keep is None and len(prompt) > LONGEST_TOKEN * backend.max_model_len:
            raise RequestTooLarge(
                f"a text of {len(prompt)} characters cannot fit in the context of "
                f"{backend.max_model_len} tokens",
                field=field,
            )
        tokens = await backend.encode(prompt, add_special_tokens=special)
    else:
        tokens = prompt
    if keep is None:
        return tokens
    if keep < -1 or keep == 0:
        raise InvalidRequest(
            f"truncate_prompt_tokens must be positive or -1, got {keep}",
            field="truncate_prompt_tokens",
        )
    return tokens[-(backend.max_model_len - 1 if keep == -1 else keep) :]


def render(
    backend: Backend,
    messages: list[Message],
    *,
    add_generation_prompt: bool | None,
    continue_final_message: bool | None,
    variables: dict[str, Any] | None,
) -> str:
    """The conversation as the model's chat template writes it."""
    template = backend.chat_template
    if template is None:
        raise InvalidRequest(
            "this model has no chat template: use /v1/completions, or start the server with "
            "--chat-template",
            field="messages",
        )
    if not messages:
        raise InvalidRequest("messages is empty", field="messages")
    goes_on = bool(continue_final_message)
    prompted = not goes_on if add_generation_prompt is None else add_generation_prompt
    if goes_on and prompted:
        raise InvalidRequest(
            "continue_final_message and add_generation_prompt exclude each other",
            field="continue_final_message",
        )
    reserved = {"messages", "tools", "add_generation_prompt", "continue_final_message"}
    for name in variables or {}:
        if name in reserved or not name.isidentifier():
            raise InvalidRequest(
                f"chat_template_kwargs may not set {name[:100]!r}", field="chat_template_kwargs"
            )
    return template.render(
        [_plain(message) for message in messages],
        add_generation_prompt=prompted,
        continue_final_message=goes_on,
        **(variables or {}),
    )


def message_text(message: Message) -> str:
    """A message's text; several parts are joined by line breaks."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content)


def _plain(message: Message) -> dict[str, Any]:
    """The message as templates expect it; they know `system` where OpenAI now says `developer`."""
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message_text(message)}
    if message.name is not None:
        plain["name"] = message.name
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain
