"""Which variables and which fields of messages a chat template reads, told from its syntax."""

from __future__ import annotations

import pytest

from headway.text import ChatTemplate, TextConfig


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, TextConfig(eos_token_ids=()))


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        ("{{ messages }}{{ a ~ b }}", {"messages", "a", "b"}),
        ("{% set x = x or 1 %}{{ x }}", {"x"}),
        ("{% if x is not defined %}{% set x = false %}{% endif %}{{ x }}", {"x"}),
        ("{% set x = 1 %}{{ x }}", set()),
        ("{% if tools %}{% set x = 1 %}{% endif %}{{ x }}", {"tools", "x"}),
        ("{% for m in messages %}{{ loop.index }}{{ m.role }}{% endfor %}", {"messages"}),
        ("{% macro f(p) %}{{ p }}{{ q }}{% endmacro %}{{ f(r) }}", {"q", "r"}),
        ("{% set n = namespace(a=b) %}{{ range(3) }}{{ raise_exception('') }}", {"b"}),
        ("constant", set()),
    ],
)
def test_variables_are_those_that_are_not_set_first(source: str, variables: set[str]) -> None:
    assert template(source).facts.variables == variables


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}", False),
        ("{% for m in messages %}{{ m.name }}{% endfor %}", True),
        ("{{ messages[0]['name'] }}", True),
        ("{{ messages[0].get('name') }}", True),
        ("{% if 'name' in messages[0] %}{% endif %}", True),
        ("{{ messages | map(attribute='name') | join }}", True),
        ("{{ messages | map(attribute='role') | join }}", False),
        ("{{ messages | map('tojson') | join }}", True),
        ("{% for m in messages[1:] %}{{ m | tojson }}{% endfor %}", True),
        ("{% set last = messages | last %}{{ last }}", True),
        ("{% for m in messages %}{% for k, v in m.items() %}{% endfor %}{% endfor %}", True),
        ("{% for t in tools %}{{ t | tojson }}{% endfor %}{{ messages[0].content }}", False),
    ],
)
def test_a_field_is_read_by_name_or_with_the_whole_message(source: str, read: bool) -> None:
    assert template(source).reads("name") is read
