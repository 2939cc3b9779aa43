"""From a conversation to the text of a prompt, as the model's chat template writes it.

A template is a program, and rendering it takes what it takes. A known template, one that was read
and found to take time in proportion to its input, renders a conversation of ordinary size at once.
Everything else, and every template that is not known, renders in a process with limits
(`headway.llm.render_process`), so the event loop never waits for a template.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, cast

from headway.errors import InvalidRequest, ModelError
from headway.llm.message_form import MessageForm
from headway.llm.render_process import RenderProcess
from headway.llm.tool_prompts import with_tools
from headway.message import Tool
from headway.text import ChatTemplate, TextConfig
from headway.text.render_worker import RenderChat
from headway.text.template_facts import TemplateFacts

KNOWN_TEMPLATES = frozenset(
    (
        # SmolLM2 Instruct: one loop over messages, which joins texts.
        "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
    )
)
"""SHA-256 of templates whose time is known to grow with their input alone."""
SMALL_INPUT = 128 * 1024
"""Characters, with `VALUE_WEIGHT` for every value, that a known template renders in a moment."""
VALUE_WEIGHT = 64
MAX_SOURCE = 2**20
"""Characters of a chat template; published ones have up to some ten thousand."""

RESERVED = frozenset(("messages", "tools", "add_generation_prompt", "continue_final_message"))
"""Template variables that have arguments of their own."""
SWITCH = "enable_thinking"
"""By which many templates turn reasoning off; clients send it to models of every kind."""
_MOST_NAMES = 20


class ChatRenderer:
    """Renders conversations by one chat template; `close` it in the end."""

    def __init__(
        self,
        facts: TemplateFacts,
        *,
        local: ChatTemplate | None,
        process: RenderProcess,
        form: MessageForm | None = None,
    ) -> None:
        """`local` renders what is small; None where the template is not known."""
        self.facts = facts
        self.form = form or MessageForm.choose(None)
        """How the model writes what is not plain text."""
        self._local = local
        self._process = process

    @classmethod
    async def load(
        cls, source: str, text_config: TextConfig, form: MessageForm | None = None
    ) -> ChatRenderer:
        """For any template; raises `ModelError` where it cannot be compiled within limits.

        `form` is the one that the template tells, if absent.
        """
        if len(source) > MAX_SOURCE:
            raise ModelError(
                f"the chat template is larger than {MAX_SOURCE} characters", field="chat_template"
            )
        digest = sha256(source.encode(errors="surrogatepass")).hexdigest()
        if digest in KNOWN_TEMPLATES:
            return cls.trusted(await asyncio.to_thread(ChatTemplate, source, text_config), form)
        form = form or MessageForm.choose(source)
        process = RenderProcess(source, text_config)
        try:
            return cls(await process.load(), local=None, process=process, form=form)
        except BaseException:
            await process.close()
            raise

    @classmethod
    def trusted(cls, template: ChatTemplate, form: MessageForm | None = None) -> ChatRenderer:
        """For a template whose author is known to mean well."""
        process = RenderProcess(template.source, template.text_config)
        form = form or MessageForm.choose(template.source)
        return cls(template.facts, local=template, process=process, form=form)

    @property
    def source(self) -> str:
        """The template itself."""
        return self._process.source

    def reads(self, field: str) -> bool:
        """Whether the template looks at a message's field of this name."""
        return self.facts.reads_field(field)

    async def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
        tools: Sequence[Tool] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as one text.

        Messages are OpenAI's, as dictionaries. `add_generation_prompt` opens the assistant's turn
        (if None: unless the final message is continued), `tools` are those that the model is told
        of, `variables` are further variables of the template. Raises `InvalidRequest` where the
        template cannot show these messages, does not read one of the variables, or exceeds its
        limits.
        """
        if not messages:
            raise InvalidRequest("messages is empty", field="messages")
        self._check_variables(variables or {})
        opens = add_generation_prompt
        if opens is None:
            opens = not continue_final_message
        messages, shown = with_tools(messages, tools, self.facts, self.form.tools)
        if self._local is not None and _is_small(messages, shown, variables):
            return self._local.render(
                messages,
                add_generation_prompt=opens,
                continue_final_message=continue_final_message,
                tools=shown,
                variables=variables,
            )
        return await self._process.render(
            RenderChat(
                messages=cast(list[dict[str, Any]], messages),
                add_generation_prompt=opens,
                continue_final_message=continue_final_message,
                tools=shown,
                variables=None if variables is None else dict(variables),
            )
        )

    async def close(self) -> None:
        """End the process, if one was started."""
        await self._process.close()

    def _check_variables(self, variables: Mapping[str, Any]) -> None:
        field = "chat_template_kwargs"
        for name in variables:
            if name in RESERVED:
                raise InvalidRequest(f"{field} may not set {name!r}: it has a field", field=field)
            if name == SWITCH and variables[name] is False:
                continue  # a model without the switch does as is asked
            if name not in self.facts.variables:
                known = sorted(self.facts.variables - RESERVED)
                some = ", ".join(each[:100] for each in known[:_MOST_NAMES]) or "no others"
                raise InvalidRequest(
                    f"the chat template does not read {str(name)[:100]!r}; it reads: {some}",
                    field=field,
                )


def _is_small(*values: object) -> bool:
    """Whether so much input is surely rendered in a moment; looks at no more than it must."""
    left = SMALL_INPUT
    rest = list(values)
    while rest and left >= 0:
        value = rest.pop()
        left -= VALUE_WEIGHT
        if isinstance(value, str):
            left -= len(value)
        elif isinstance(value, Mapping):
            rest += value
            rest += value.values()
        elif isinstance(value, (list, tuple)):
            if len(value) * VALUE_WEIGHT > left:
                return False
            rest += value
        elif value is not None and not isinstance(value, (bool, int, float)):
            return False
    return left >= 0
