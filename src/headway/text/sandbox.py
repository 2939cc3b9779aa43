"""The Jinja that chat templates run in: immutable, sandboxed, and bounded.

What Jinja's own sandbox leaves open is bounded here: loop iterations, numbers, and the size of
every text that is built. These bounds give a clear refusal for what goes wrong by mistake and for
most of what is meant to. They cannot hold against every template: what is not known runs in a
process with limits besides (`headway.text.render_worker`). The helpers are those that published
templates call.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.filters
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_OUTPUT = 32 * 2**20
"""Characters of a prompt, and of any text that a template builds on its way."""
MAX_ITERATIONS = 1_000_000
"""Loop iterations of one rendering, all loops together."""
MAX_WIDTH = 10_000
"""Largest number that a template may hand to a method, as widths and counts are."""
MAX_BITS = 4096
"""Size of an integer that a template may compute."""

COUNTED = "_headway_counted"
"""The variable that holds a rendering's `iteration_counter`."""
_WIDE = re.compile(r"\d{5,}|%[^a-z%]*\*|\{[^}]*\{")
_CONCAT = "_headway_concat"


def bounded_environment() -> ImmutableSandboxedEnvironment:
    """Jinja for one template, which must go through `bound_tree` before it is compiled."""
    environment = _BoundedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = _tojson
    environment.filters["join"] = _bounded_join
    for name in ("center", "format", "indent", "replace", "wordwrap"):
        environment.filters[name] = _bounded_filter(environment.filters[name])
    for name in ("pprint", "random", "urlize", "xmlattr"):
        del environment.filters[name]
    environment.globals.pop("lipsum")
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals[_CONCAT] = _concat
    return environment


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with the sizes of loops and texts bounded (Jinja extends by subclass)."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            # What nearly every template does for every message.
            if type(left) is str and type(right) is str and len(left) + len(right) <= MAX_OUTPUT:
                return left + right
            if _size(left) + _size(right) > MAX_OUTPUT:
                raise too_large()
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
        elif operator in ("*", "**"):
            if _size(left) * _count(right) + _size(right) * _count(left) > MAX_OUTPUT:
                raise too_large()
            _check_bits(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped

    def call(self, context: Context, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(target, "__self__", None)
        if isinstance(owner, str):
            _check_method(owner, getattr(target, "__name__", ""), (*args, *kwargs.values()))
        return super().call(context, target, *args, **kwargs)


class _Generation(Extension):
    """The tag that marks what the assistant says, for training; its content is shown as it is."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def bound_tree(tree: nodes.Template) -> None:
    """Let every loop count its iterations, and every `~` look at the sizes first."""
    for loop in list(tree.find_all(nodes.For)):
        loop.iter = _call(COUNTED, [loop.iter], loop)
    _replace_concat(tree)


def _call(name: str, arguments: list[Any], near: nodes.Node) -> nodes.Call:
    function = nodes.Name(name, "load", lineno=near.lineno)
    return nodes.Call(function, arguments, [], None, None, lineno=near.lineno)


def _replace_concat(node: nodes.Node) -> None:
    """Every `a ~ b` below a node becomes a call that checks the sizes first."""
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [_bounded(child) for child in value])
        else:
            setattr(node, field, _bounded(value))


def _bounded(child: Any) -> Any:
    if not isinstance(child, nodes.Node):
        return child
    _replace_concat(child)
    return _call(_CONCAT, child.nodes, child) if isinstance(child, nodes.Concat) else child


def iteration_counter() -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A function that hands an iterable on, and counts the iterations of all of them together."""
    left = MAX_ITERATIONS

    def counted(items: Iterable[Any]) -> Iterator[Any]:
        nonlocal left
        for item in items:
            left -= 1
            if left < 0:
                raise jinja2.TemplateRuntimeError(f"more than {MAX_ITERATIONS:,} loop iterations")
            yield item

    return counted


def _concat(*parts: Any) -> str:
    texts = [str(part) for part in parts]
    if sum(map(len, texts)) > MAX_OUTPUT:
        raise too_large()
    return "".join(texts)


def _bounded_join(value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    """Jinja's `join`, except that it looks at the size before it builds the text."""
    items = list(value)
    if attribute is not None:
        items = [_attribute(item, attribute) for item in items]
    texts = [str(item) for item in items]
    if sum(map(len, texts)) + len(str(d)) * len(texts) > MAX_OUTPUT:
        raise too_large()
    return str(d).join(texts)


def _attribute(item: Any, name: str) -> Any:
    return item.get(name, "") if isinstance(item, Mapping) else ""


def _bounded_filter(original: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes no huge numbers, and none whose result could be huge."""

    @functools.wraps(original)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        texts = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
        if len(texts) > 2 and texts[0].count(texts[1]) * len(texts[2]) > MAX_OUTPUT:
            raise too_large()
        _check_numbers((*args, *kwargs.values()))
        if texts and original is jinja2.filters.FILTERS["format"]:
            _check_format(texts[0])
        return original(*args, **kwargs)

    return bounded


def _check_bits(operator: str, left: Any, right: Any) -> None:
    """Refuse a product or power of integers by the size of its result, before it is computed."""
    if not (isinstance(left, int) and isinstance(right, int)):
        return
    bits = left.bit_length()
    if operator == "*":
        bits += right.bit_length()
    elif bits > 1:  # powers of 0 and 1 stay what they are
        bits *= max(right, 1)
    if bits > MAX_BITS:
        raise jinja2.TemplateRuntimeError("the number grows too large")


def _check_method(owner: str, name: str, arguments: tuple[Any, ...]) -> None:
    _check_numbers(arguments)
    texts = [value for value in arguments if isinstance(value, str)]
    grown = 0
    if name == "replace" and len(texts) > 1:
        grown = owner.count(texts[0]) * len(texts[1])
    elif name == "join" and arguments and isinstance(arguments[0], Sequence):
        grown = sum(map(_size, arguments[0])) + len(owner) * len(arguments[0])
    if grown > MAX_OUTPUT:
        raise too_large()


def _check_format(pattern: str) -> None:
    """Refuse a format whose widths are huge, or are computed."""
    if _WIDE.search(pattern):
        raise jinja2.TemplateRuntimeError("a format with a computed or huge width")


def _check_numbers(arguments: Iterable[Any]) -> None:
    if any(_count(value) > MAX_WIDTH for value in arguments):
        raise jinja2.TemplateRuntimeError(f"a number above {MAX_WIDTH:,} in a text operation")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, tuple)) else 0


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def too_large() -> jinja2.TemplateRuntimeError:
    """The error for a text that outgrows `MAX_OUTPUT`."""
    return jinja2.TemplateRuntimeError("the text grows too large")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: without the escapes that Jinja adds for HTML."""
    if isinstance(value, Undefined):
        raise jinja2.UndefinedError("tojson of something undefined")
    if indent is not None:
        _check_numbers((indent,))
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
