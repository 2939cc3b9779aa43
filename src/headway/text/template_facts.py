"""What a chat template reads: its variables, and the fields of messages.

Told from the template's syntax alone, nothing of it is run. A variable counts if the template may
look it up among those it is given, so one that it only sets does not. A field counts if its name
stands anywhere that a field's name can: a template which does not read it, however it is run, is
told for certain; one that has the name elsewhere is taken to read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import meta, nodes

_WHOLE_FILTERS = frozenset(("dictsort", "items", "string", "tojson"))
_WHOLE_METHODS = frozenset(("items", "values"))
_CHOOSING_FILTERS = frozenset(
    ("batch", "first", "last", "list", "rejectattr", "reverse", "selectattr", "slice", "sort")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFacts:
    """What a chat template looks at."""

    variables: frozenset[str]
    """Those that it reads and does not set first, `messages` and `tools` among them."""
    fields: frozenset[str]
    """Names in the template that may be a message's fields."""
    shows_whole_messages: bool
    """It shows messages with all their fields, such as `message | tojson` does."""

    def reads_field(self, name: str) -> bool:
        """Whether a message's field of this name can make a difference."""
        return self.shows_whole_messages or name in self.fields


def facts_of(tree: nodes.Template) -> TemplateFacts:
    """The facts of a template as it was parsed."""
    return TemplateFacts(
        variables=frozenset(meta.find_undeclared_variables(tree)),
        fields=frozenset(_names(tree)),
        shows_whole_messages=_shows_whole(tree, _message_names(tree)),
    )


def _names(tree: nodes.Template) -> Iterator[str]:
    for attribute in tree.find_all(nodes.Getattr):
        yield attribute.attr
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str):
            yield from constant.value.split(".")  # map(attribute="a.b")


def _message_names(tree: nodes.Template) -> set[str]:
    """Variables that hold a message or several."""
    names = {"messages"}
    bound = [(loop.target, loop.iter) for loop in tree.find_all(nodes.For)]
    bound += [(each.target, each.node) for each in tree.find_all(nodes.Assign)]
    size = 0
    while size != len(names):
        size = len(names)
        for target, value in bound:
            if isinstance(target, nodes.Name) and _is_message(value, names):
                names.add(target.name)
    return names


def _is_message(node: nodes.Node | None, names: set[str]) -> bool:
    while not isinstance(node, nodes.Name):
        by_name = isinstance(node, nodes.Getitem) and isinstance(
            getattr(node.arg, "value", None), str
        )
        chosen = isinstance(node, nodes.Filter) and node.name in _CHOOSING_FILTERS
        if by_name or not (chosen or isinstance(node, nodes.Getitem)):
            return False
        assert isinstance(node, (nodes.Filter, nodes.Getitem))
        node = node.node
    return node.name in names


def _shows_whole(tree: nodes.Template, names: set[str]) -> bool:
    shown: list[nodes.Node | None] = []
    for output in tree.find_all(nodes.Output):
        shown += output.nodes
    for joined in tree.find_all(nodes.Concat):
        shown += joined.nodes
    for applied in tree.find_all(nodes.Filter):
        # `map` takes an attribute by name, or hands each message to another filter.
        if applied.name in _WHOLE_FILTERS or (applied.name == "map" and applied.args):
            shown.append(applied.node)
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and call.node.attr in _WHOLE_METHODS:
            shown.append(call.node.node)
    return any(_is_message(node, names) for node in shown)
