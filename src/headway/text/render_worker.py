"""`python -m headway.text.render_worker`: renders one chat template, within limits.

A template is a program that somebody else wrote, and no check of its text tells how much it will
compute. So this process does it, with a limit of processor time for every message that it answers
and one of memory for all of them. The operating system ends the process at the first, whatever it
is doing; whoever started it starts another. It can open, write and start nothing that matters.

Frames on standard input, a socket, both ways: a little-endian 32-bit length and that many bytes of
MessagePack. First comes a `LoadTemplate`, which `TemplateLoaded` answers, then any number of
`RenderChat`; `RenderRefused` may answer either. The process ends when its input does.
"""

from __future__ import annotations

import resource
import signal
import socket
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from headway.errors import HeadwayError
from headway.text.template import ChatTemplate
from headway.text.template_facts import TemplateFacts
from headway.types.model import TextConfig

FRAME_HEADER = struct.Struct("<I")
MAX_FRAME = 256 * 2**20
CPU_LIMIT_SIGNAL = signal.SIGPROF
"""What ends a process that has used up its processor time."""
_OPEN_FILES = 16
"""Enough for the modules of Python and Jinja that are loaded late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderLimits:
    """What one template may use."""

    cpu_seconds: float = 2.0
    """Of processor time, to load the template and for each rendering."""
    memory: int = 512 * 2**20
    """Bytes of the process's data."""


class LoadTemplate(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    source: str
    text_config: TextConfig
    limits: RenderLimits


class RenderChat(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The arguments of `ChatTemplate.render`."""

    messages: list[dict[str, Any]]
    add_generation_prompt: bool
    continue_final_message: bool
    tools: list[dict[str, Any]] | None = None
    variables: dict[str, Any] | None = None


class TemplateLoaded(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    facts: TemplateFacts


class ChatRendered(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    text: str


class RenderRefused(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """What went wrong, for whoever asked; `out_of_memory` if that was it."""

    message: str
    field: str | None = None
    out_of_memory: bool = False


ToWorker = LoadTemplate | RenderChat
FromWorker = TemplateLoaded | ChatRendered | RenderRefused

to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def main() -> int:
    with socket.socket(fileno=0) as connection:
        reader = connection.makefile("rb")
        template: ChatTemplate | None = None
        limits = RenderLimits()
        while body := read_frame(reader):
            signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)
            try:
                asked = to_worker.decode(body)
                if isinstance(asked, LoadTemplate):
                    limits = asked.limits
                    restrict(limits)
                    template = ChatTemplate(asked.source, asked.text_config)
                    answer = msgspec.msgpack.encode(TemplateLoaded(facts=template.facts))
                else:
                    assert template is not None, "a template is loaded first"
                    answer = msgspec.msgpack.encode(ChatRendered(text=_rendered(template, asked)))
            except MemoryError:
                template = None  # gives the memory back that the answer needs
                answer = _refusal("", out_of_memory=True)
            except HeadwayError as error:
                answer = _refusal(error.message, field=error.field)
            except UnicodeError as error:
                answer = _refusal(f"chat template: not valid Unicode: {error}", field="messages")
            except (RecursionError, msgspec.MsgspecError) as error:
                answer = _refusal(f"chat template: {type(error).__name__}", field="messages")
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.sendall(FRAME_HEADER.pack(len(answer)) + answer)
            if template is None:
                return 1
    return 0


def read_frame(reader: BinaryIO) -> bytes:
    """The next frame's body; empty at the end of the input."""
    header = reader.read(FRAME_HEADER.size)
    return reader.read(FRAME_HEADER.unpack(header)[0]) if len(header) == FRAME_HEADER.size else b""


def _rendered(template: ChatTemplate, asked: RenderChat) -> str:
    return template.render(
        asked.messages,
        add_generation_prompt=asked.add_generation_prompt,
        continue_final_message=asked.continue_final_message,
        tools=asked.tools,
        variables=asked.variables,
    )


def _refusal(message: str, *, field: str | None = None, out_of_memory: bool = False) -> bytes:
    # What a template says may be no valid text.
    told = message.encode(errors="replace").decode()
    return msgspec.msgpack.encode(
        RenderRefused(message=told, field=field, out_of_memory=out_of_memory)
    )


def restrict(limits: RenderLimits, *, stack: int | None = None) -> None:
    """From here on this process can do little besides computing; what fails is not supported.

    `stack` bounds the main thread's, in bytes.
    """
    signal.signal(CPU_LIMIT_SIGNAL, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)
    for kind, most in (
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_AS, limits.memory + 2**30),  # libraries, mapped but not used
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        *(() if stack is None else ((resource.RLIMIT_STACK, stack),)),
    ):
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):
            continue


if __name__ == "__main__":
    raise SystemExit(main())
