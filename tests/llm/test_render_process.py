"""Hostile templates end within their limits, and who waits behind one gets an answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from headway.errors import InvalidRequest, ModelError, Overloaded, Unavailable
from headway.llm import rendering
from headway.llm.render_process import MAX_WAITING, RenderProcess
from headway.llm.rendering import ChatRenderer
from headway.message import Tool
from headway.text import TextConfig
from headway.text.render_worker import RenderChat, RenderLimits
from tests.text.hostile_templates import HOSTILE

TEXT = TextConfig(eos_token_ids=(), bos_token="<s>")
LIMITS = RenderLimits(cpu_seconds=0.5, memory=256 * 2**20)
# For what is to fail by its memory: filling that takes a slow machine a while.
MEMORY_LIMITS = RenderLimits(cpu_seconds=300, memory=256 * 2**20)
# Any answer is right there, so the innocent need no time to spare.
SHORT_LIMITS = RenderLimits(cpu_seconds=0.2, memory=256 * 2**20)
# Reads what it is to do from a variable: nothing, or something without an end.
SOMETIMES = (
    "{% if endless %}{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}{% endif %}"
    "{{ messages[0].content }}"
)


def asked(content: str = "hi", **variables: Any) -> RenderChat:
    return RenderChat(
        messages=[{"role": "user", "content": content}],
        add_generation_prompt=True,
        continue_final_message=False,
        variables=variables,
    )


@asynccontextmanager
async def process(source: str, limits: RenderLimits = LIMITS) -> AsyncIterator[RenderProcess]:
    renders = RenderProcess(source, TEXT, limits=limits)
    try:
        yield renders
    finally:
        await renders.close()


def render_processes() -> list[psutil.Process]:
    return [
        each
        for each in psutil.Process().children()
        if each.status() == psutil.STATUS_ZOMBIE or "headway.text.render_worker" in each.cmdline()
    ]


def child() -> psutil.Process:
    """The one render process there is."""
    (found,) = [each for each in render_processes() if each.status() != psutil.STATUS_ZOMBIE]
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_within_its_limits(name: str) -> None:
    async def main() -> None:
        async with process(HOSTILE[name], SHORT_LIMITS) as renders:
            text = await renders.render(asked())
            assert len(text) <= 32 * 2**20

    children = os.times().children_user + os.times().children_system
    own = time.process_time()
    # It ends in an answer, or in one of the errors that a caller is told.
    with contextlib.suppress(InvalidRequest, Unavailable):
        asyncio.run(main())
    own = time.process_time() - own
    children = os.times().children_user + os.times().children_system - children
    # Starting Python takes some processor time beside the two limits, for loading and rendering.
    assert children < 2 * SHORT_LIMITS.cpu_seconds + 2
    assert own < LIMITS.cpu_seconds, "the rendering is not done here"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ranges summed", "more than 0.5 s of processor time"),
        ("macro that calls itself twice", "more than 0.5 s of processor time"),
        ("wordwrap", "more than 0.5 s of processor time"),
        ("doubled by a filter block", "more than 256 MiB of memory"),
        ("indent by a text", "more than 256 MiB of memory"),
        ("power of a small base", "number grows too large"),
    ],
)
def test_the_error_says_which_limit_it_was(name: str, reason: str) -> None:
    limits = MEMORY_LIMITS if "memory" in reason else LIMITS

    async def main() -> None:
        async with process(HOSTILE[name], limits) as renders:
            for _ in range(2):  # and it says so again, from another process
                with pytest.raises(InvalidRequest, match=reason) as caught:
                    await renders.render(asked())
                assert caught.value.field == "messages"

    asyncio.run(main())


def test_who_waits_behind_a_hostile_rendering_is_served() -> None:
    async def main() -> None:
        async with process(SOMETIMES) as renders:
            await renders.load()
            work = [
                renders.render(asked(str(number), endless=number in (1, 3))) for number in range(6)
            ]
            answers = await asyncio.gather(*work, return_exceptions=True)
            assert [a for a in answers if isinstance(a, str)] == ["0", "2", "4", "5"]
            assert all(isinstance(answers[number], InvalidRequest) for number in (1, 3))

    asyncio.run(main())


def test_a_caller_who_leaves_ends_its_rendering() -> None:
    async def main() -> None:
        async with process(SOMETIMES, RenderLimits(cpu_seconds=300)) as renders:
            assert await renders.render(asked()) == "hi"
            first = child()
            endless = asyncio.create_task(renders.render(asked(endless=True)))
            waiting = asyncio.create_task(renders.render(asked("lost")))
            behind = asyncio.create_task(renders.render(asked("behind")))
            begun = first.cpu_times().user
            while first.cpu_times().user < begun + 0.1:
                await asyncio.sleep(0.01)
            waiting.cancel()
            endless.cancel()
            assert await behind == "behind"
            assert not first.is_running()
            assert endless.cancelled()
            assert waiting.cancelled()

    asyncio.run(main())


def test_a_process_that_dies_between_renderings_is_replaced() -> None:
    async def main() -> None:
        async with process(SOMETIMES) as renders:
            assert await renders.render(asked()) == "hi"
            killed = child()
            killed.kill()
            while killed.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.001)
            assert await renders.render(asked()) == "hi"
        assert not render_processes()

    asyncio.run(main())


def test_a_process_that_is_killed_while_it_renders_is_replaced() -> None:
    async def main() -> None:
        async with process(SOMETIMES, RenderLimits(cpu_seconds=300)) as renders:
            assert await renders.render(asked()) == "hi"
            killed = child()
            endless = asyncio.create_task(renders.render(asked(endless=True)))
            begun = killed.cpu_times().user
            while killed.cpu_times().user < begun + 0.1:
                await asyncio.sleep(0.01)
            killed.kill()
            with pytest.raises(InvalidRequest, match="signal 9"):
                await endless
            assert await renders.render(asked()) == "hi"

    asyncio.run(main())


def test_a_stopped_process_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.llm.render_process.WALL_SECONDS", 0.5)

    async def main() -> None:
        async with process(SOMETIMES) as renders:
            assert await renders.render(asked()) == "hi"
            child().send_signal(signal.SIGSTOP)
            with pytest.raises(InvalidRequest, match=r"not rendered after 0\.5 s"):
                await renders.render(asked())
            assert await renders.render(asked()) == "hi"

    asyncio.run(main())


def test_the_process_has_neither_secrets_nor_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_API_KEY", "secret")

    async def main() -> None:
        with Path(__file__).open("rb") as opened:
            os.set_inheritable(opened.fileno(), True)
            async with process(SOMETIMES) as renders:
                await renders.render(asked())
                found = child()
                assert "HEADWAY_API_KEY" not in found.environ()
                assert not found.open_files()
                assert found.num_fds() == 3, "its connection, and nothing twice"
                assert found.rlimit(psutil.RLIMIT_DATA) == (LIMITS.memory, LIMITS.memory)

    if sys.platform == "linux":
        asyncio.run(main())


def test_the_line_is_bounded() -> None:
    async def main() -> None:
        async with process(SOMETIMES, RenderLimits(cpu_seconds=300)) as renders:
            work = [renders.render(asked(endless=True)) for _ in range(MAX_WAITING)]
            tasks = [asyncio.create_task(each) for each in work]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await renders.render(asked())
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert await renders.render(asked()) == "hi"

    asyncio.run(main())


def test_no_process_to_be_had() -> None:
    async def main() -> None:
        renders = RenderProcess(SOMETIMES, TEXT, command=("/nowhere/python",))
        for _ in range(2):
            with pytest.raises(Unavailable, match="cannot start"):
                await renders.render(asked())
        broken = RenderProcess(
            SOMETIMES, TEXT, command=(sys.executable, "-c", "raise SystemExit(3)")
        )
        with pytest.raises(ModelError, match="exit code 3"):
            await broken.load()
        with pytest.raises(Unavailable, match="exit code 3"):
            await broken.render(asked())

    asyncio.run(main())


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800"])
def test_what_is_no_plain_data_is_refused(value: object) -> None:
    async def main() -> None:
        async with process(SOMETIMES) as renders:
            with pytest.raises(InvalidRequest, match="plain data"):
                await renders.render(asked(endless=value))

    asyncio.run(main())


def test_an_unknown_template_is_never_compiled_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: object) -> None:
        raise AssertionError("compiled here")

    monkeypatch.setattr(rendering, "ChatTemplate", compiled)

    async def main() -> None:
        renderer = await ChatRenderer.load(
            SOMETIMES + "{{ messages[0].name }}{{ bos_token }}", TEXT
        )
        assert renderer.facts.variables == {"endless", "messages", "bos_token"}
        assert renderer.reads("name")
        assert not renderer.reads("tool_call_id")
        messages = [{"role": "user", "content": "hi", "name": "-Ann"}]
        assert await renderer.render(messages) == "hi-Ann<s>"
        with pytest.raises(InvalidRequest, match="it reads: bos_token, endless"):
            await renderer.render(messages, variables={"thinking": True})
        await renderer.close()
        renderer = await ChatRenderer.load("{{ tools[0].function.name }}", TEXT)
        assert await renderer.render(messages, tools=[Tool(name="f")]) == "f"
        await renderer.close()
        with pytest.raises(ModelError, match="not valid Jinja"):
            await ChatRenderer.load("{% for %}", TEXT)
        with pytest.raises(ModelError, match="larger than"):
            await ChatRenderer.load("x" * (rendering.MAX_SOURCE + 1), TEXT)
        assert not render_processes()

    asyncio.run(main())
