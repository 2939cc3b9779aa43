"""Chat templates: a list of messages as the text of a prompt.

Templates come with models, so they are untrusted programs: they run in a bounded sandbox
(`headway.text.sandbox`). Messages are OpenAI's, as dictionaries: `role`, `content` (a text, or a
list of text parts), and whatever else the template knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from headway.errors import InvalidRequest, ModelError
from headway.text.sandbox import (
    COUNTED,
    MAX_OUTPUT,
    bound_tree,
    bounded_environment,
    iteration_counter,
    too_large,
)
from headway.text.template_facts import facts_of
from headway.types.model import TextConfig

_END = "\ue000end-of-final-message\ue001"


class ChatTemplate:
    """One model's chat template, compiled.

    Raises `ModelError` on construction where the template is not valid Jinja.
    """

    def __init__(self, source: str, text_config: TextConfig) -> None:
        self.source = source
        self.text_config = text_config
        self._tokens = special_variables(text_config)
        environment = bounded_environment()
        try:
            tree = environment.parse(source)
            self.facts = facts_of(tree)
            bound_tree(tree)
            self._template = environment.from_string(tree)
        # Python refuses what it cannot compile in several ways.
        except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError) as error:
            raise ModelError(f"the chat template is not valid Jinja: {_short(error)}") from error

    def reads(self, field: str) -> bool:
        """Whether the template looks at a message's field of this name."""
        return self.facts.reads_field(field)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for these messages; `variables` are handed to the template as they are.

        With `continue_final_message` the prompt ends where the last message's content does.
        Raises `InvalidRequest` (field "messages") for whatever goes wrong in the template.
        """
        shown = [_as_templates_expect(message) for message in messages]
        if continue_final_message:
            if add_generation_prompt:
                raise InvalidRequest(
                    "continue_final_message and add_generation_prompt exclude each other",
                    field="continue_final_message",
                )
            shown = _marked(shown)
        text = self._run(
            {
                **self._tokens,
                **(variables or {}),
                "messages": shown,
                "tools": list(tools) if tools else None,
                "add_generation_prompt": add_generation_prompt,
                COUNTED: iteration_counter(),
            }
        )
        if not continue_final_message:
            return text
        end = text.rfind(_END)
        if end < 0:
            raise InvalidRequest(
                "the chat template does not show the final message, so it cannot be continued",
                field="continue_final_message",
            )
        return text[:end]

    def _run(self, variables: Mapping[str, Any]) -> str:
        parts, size = [], 0
        try:
            for part in self._template.generate(variables):
                size += len(part)
                if size > MAX_OUTPUT:
                    raise too_large()
                parts.append(part)
        except MemoryError:
            raise
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"chat template: {_short(error)}", field="messages") from error
        except RecursionError as error:
            raise InvalidRequest("chat template: nested too deeply", field="messages") from error
        except Exception as error:  # a template may fail in any way that Python can
            what = f"{type(error).__name__}: {_short(error)}"
            raise InvalidRequest(f"chat template: {what}", field="messages") from error
        return "".join(parts)


def special_variables(text_config: TextConfig) -> dict[str, str]:
    """The special tokens, under the names that templates have for them."""
    return {
        "bos_token": text_config.bos_token,
        "eos_token": text_config.eos_token,
        "pad_token": text_config.pad_token,
        "unk_token": text_config.unk_token,
    }


def message_text(content: str | Sequence[Mapping[str, Any]]) -> str:
    """A message's content as one text; several parts are joined by line breaks."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content)


def _as_templates_expect(message: Mapping[str, Any]) -> dict[str, Any]:
    """Templates know one text for content, and `system` where OpenAI now says `developer`."""
    shown = dict(message)
    if shown.get("role") == "developer":
        shown["role"] = "system"
    content = shown.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        shown["content"] = message_text(content)
    return shown


def _marked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    content = messages[-1].get("content") if messages else None
    if not isinstance(content, str):
        raise InvalidRequest(
            "continue_final_message needs a final message whose content is a text",
            field="continue_final_message",
        )
    return [*messages[:-1], {**messages[-1], "content": content + _END}]


def _short(error: Exception) -> str:
    """An error as text; a template chooses what it says, so its length is bounded."""
    return str(error)[:500]
