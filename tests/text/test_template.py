"""Chat templates render as their models expect, and hostile ones end in a clear refusal."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidRequest, ModelError
from headway.text import ChatTemplate, TextConfig

TEXT = TextConfig(eos_token_ids=(2,), bos_token="<s>", eos_token="</s>")
CHATML = """{% for message in messages %}
<|{{ message['role'] }}|>{{ message['content'] }}</s>
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>{% endif %}"""
NESTED = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
GROWING = """{% set n = namespace(s='ab') %}
{% for i in range(99) %}{% set n.s = MORE %}{% endfor %}"""
HELLO = [{"role": "user", "content": "Hello"}]


def render(source: str, messages: list[dict[str, Any]] | None = None, **options: Any) -> str:
    return ChatTemplate(source, TEXT).render(messages or HELLO, **options)


def test_blocks_leave_no_blank_lines() -> None:
    assert render(CHATML) == "<|user|>Hello</s>\n<|assistant|>"
    assert render(CHATML, add_generation_prompt=False) == "<|user|>Hello</s>\n"


def test_the_final_message_is_left_open() -> None:
    messages = [*HELLO, {"role": "assistant", "content": "Well, Hello "}]
    text = render(CHATML, messages, add_generation_prompt=False, continue_final_message=True)
    assert text == "<|user|>Hello</s>\n<|assistant|>Well, Hello "


@pytest.mark.parametrize(
    ("source", "kwargs", "field"),
    [
        (CHATML, {"add_generation_prompt": True}, "continue_final_message"),
        ("constant", {"add_generation_prompt": False}, "continue_final_message"),
    ],
)
def test_what_cannot_be_continued_is_refused(
    source: str, kwargs: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        render(source, continue_final_message=True, **kwargs)
    assert caught.value.field == field


def test_helpers_that_published_templates_call() -> None:
    assert render("{{ bos_token }}{{ eos_token }}") == "<s></s>"
    assert render("{{ {'a': '<é>'} | tojson }}") == '{"a": "<é>"}'
    assert render("{{ [1] | tojson(indent=2) }}") == "[\n  1\n]"
    assert len(render("{{ strftime_now('%Y') }}")) == 4
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hello"
    assert (
        render("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}")
        == "1"
    )
    assert render("{{ enable_thinking }}", variables={"enable_thinking": False}) == "False"
    assert render("{{ tools[0].name }}", tools=[{"name": "search"}]) == "search"
    assert render("{% if tools %}yes{% else %}no{% endif %}") == "no"
    assert render("{{ 'a' ~ 1 ~ none }}{{ 'x' + 'y' }}{{ 2 * 3 }}") == "a1Nonexy6"
    assert (
        render(
            "{% for m in messages %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{% endfor %}"
        )
        == "1True1"
    )
    assert render("{{ messages | map(attribute='role') | join(',') }}") == "user"
    assert (
        render("{{ '%05.2f' % 3.14159 }}{{ 'a b'.split()[-1] }}{{ '{:>3}'.format('z') }}")
        == "03.14b  z"
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        (NESTED, "more than 1,000,000 loop iterations"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "[Rr]ange"),
        (GROWING.replace("MORE", "n.s ~ n.s"), "too large"),
        (GROWING.replace("MORE", "n.s + n.s"), "too large"),
        (GROWING.replace("MORE", "n.s.replace('a', n.s)"), "too large"),
        ("{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}", "too large"),
        ("{{ 'a' * 10 ** 12 }}", "too large"),
        ("{{ [1] * 10 ** 12 }}", "too large"),
        ("{{ (9 ** 9) ** (9 ** 9) }}", "number grows too large"),
        ("{{ 7 ** 3000000 }}", "number grows too large"),
        ("{{ 2 ** 4096 }}", "number grows too large"),
        ("{{ 2 ** 2000 * 2 ** 2200 }}", "number grows too large"),
        ("{{ 'a'.ljust(10 ** 12) }}", "number above"),
        ("{{ 'a' | center(10 ** 12) }}", "number above"),
        ("{{ '%999999999d' % 1 }}", "width"),
        ("{{ '%*d' % (999999999, 1) }}", "width"),
        ("{{ '{:{w}}'.format(1, w=999999999) }}", "width"),
        ("{{ '%999999999d' | format(1) }}", "width"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ nothing.at.all }}", "undefined"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ nothing | tojson }}", "undefined"),
    ],
)  # fmt: skip
def test_a_template_that_fails_is_a_bad_request(source: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        render(source)
    assert caught.value.field == "messages"


@pytest.mark.parametrize("source", ["{% for %}", "{{ x", "{% include 'a' %}{% nonsense %}"])
def test_a_template_that_is_not_jinja_is_a_model_error(source: str) -> None:
    with pytest.raises(ModelError, match="not valid Jinja"):
        ChatTemplate(source, TEXT)


def test_numbers_of_ordinary_size_are_computed() -> None:
    assert render("{{ 10 ** 9 }} {{ 2 ** 100 * 3 }} {{ 1 ** 10 ** 9 }} {{ 2.0 ** 3 * 2 }}") == (
        f"1000000000 {2**100 * 3} 1 16.0"
    )


def test_messages_are_not_changed() -> None:
    messages = [{"role": "user", "content": "Hello"}]
    render("{% set _ = messages[0] %}ok", messages)
    assert messages == HELLO
