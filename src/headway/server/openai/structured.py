"""What an answer must match: the fields in which clients say it, and the parameters they become.

There are OpenAI's (`response_format`), vLLM's (`structured_outputs`, and the older `guided_json`
and its like) and llama.cpp's (`json_schema`, `grammar`); one of them may be given. `strict` changes
nothing: an answer always matches the whole schema, and a schema that says more than can be kept is
refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from headway.errors import InvalidRequest
from headway.types import StructuredOutputsParams
from headway.types.grammar import MAX_CHOICES, MAX_GRAMMAR_CHARACTERS

GrammarText = Annotated[str, Meta(min_length=1, max_length=MAX_GRAMMAR_CHARACTERS)]
Schema = dict[str, Any] | GrammarText
"""A JSON Schema, or its text."""
Choices = Annotated[
    list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=MAX_CHOICES)
]


class TextFormat(
    msgspec.Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True
):
    """Any text, as without a format."""


class JsonObjectFormat(
    msgspec.Struct, frozen=True, tag_field="type", tag="json_object", forbid_unknown_fields=True
):
    """Any JSON object."""


class JsonFormat(JsonObjectFormat, frozen=True, kw_only=True, tag="json_object"):
    """Any JSON object, or JSON of the schema that stands beside the type, as llama.cpp has it."""

    schema: dict[str, Any] | None = None


class NamedSchema(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: dict[str, Any]
    name: Annotated[str, Meta(max_length=512)] | None = None
    description: str | None = None
    strict: Annotated[
        bool | None, Meta(description="The answer matches the schema in any case.")
    ] = None


class JsonSchemaFormat(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="json_schema",
    forbid_unknown_fields=True,
):
    """JSON of this schema, which may stand beside the type, as llama.cpp has it."""

    json_schema: NamedSchema | None = None
    schema: dict[str, Any] | None = None


class TaggedStructure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    begin: GrammarText
    schema: dict[str, Any] = {}
    end: str


class StructuralTagFormat(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="structural_tag",
    forbid_unknown_fields=True,
):
    """Text in which a trigger leads to one of the structures that begin with it."""

    structures: Annotated[list[TaggedStructure], Meta(min_length=1)]
    triggers: Annotated[list[GrammarText], Meta(min_length=1)]


ResponseFormat = TextFormat | JsonFormat | JsonSchemaFormat | StructuralTagFormat


class StructuredOutputsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """vLLM's: exactly one of the first six."""

    json: Annotated[Schema | None, Meta(description="A JSON Schema, or its text.")] = None
    regex: GrammarText | None = None
    choice: Choices | None = None
    grammar: Annotated[GrammarText | None, Meta(description="In Lark's or llama.cpp's form.")] = (
        None
    )
    json_object: bool | None = None
    structural_tag: Annotated[
        GrammarText | None, Meta(description="JSON with `structures` and `triggers`.")
    ] = None
    whitespace_pattern: Annotated[
        str | None, Meta(description="Between parts of JSON, as a regular expression.")
    ] = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: Literal[False] | None = None


class ConstrainedBody(Protocol):
    """The fields of a body that this module reads; see `headway.server.openai.schema`."""

    @property
    def response_format(self) -> ResponseFormat | None: ...
    @property
    def structured_outputs(self) -> StructuredOutputsBody | None: ...
    @property
    def guided_json(self) -> Schema | None: ...
    @property
    def guided_regex(self) -> str | None: ...
    @property
    def guided_choice(self) -> list[str] | None: ...
    @property
    def guided_grammar(self) -> str | None: ...
    @property
    def guided_whitespace_pattern(self) -> str | None: ...
    @property
    def json_schema(self) -> Schema | None: ...
    @property
    def grammar(self) -> str | None: ...


_PARAMETER_OF_FIELD = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json",
    "grammar": "grammar",
}


def structured_outputs_of(body: ConstrainedBody) -> StructuredOutputsParams | None:
    """What the answer must match; None for any text.

    Raises `InvalidRequest` where several fields say it. Errors of the parameters themselves name
    the field `structured_outputs`, whichever of them was given (see `grammar_field`).
    """
    given = _given(body)
    if len(given) > 1:
        first, second = list(given)[:2]
        raise InvalidRequest(
            f"{second}: {first} says what the answer must match already; give one of them",
            field=second,
        )
    whitespace = body.guided_whitespace_pattern
    if whitespace is not None and "guided_json" not in given:
        raise InvalidRequest(
            "guided_whitespace_pattern needs guided_json", field="guided_whitespace_pattern"
        )
    for parameters in given.values():
        if whitespace is not None:
            parameters["whitespace_pattern"] = whitespace
        if isinstance(parameters.get("json"), dict):
            parameters["json"] = _text(parameters["json"])
        return StructuredOutputsParams(**parameters)
    return None


def grammar_field(body: ConstrainedBody) -> str:
    """The field that says what the answer must match."""
    return next(iter(_given(body)), "structured_outputs")


def _given(body: ConstrainedBody) -> dict[str, dict[str, Any]]:
    """The fields that say what the answer must match, each with the parameters it sets."""
    found: dict[str, dict[str, Any]] = {}
    form = body.response_format
    if isinstance(form, JsonFormat):
        any_object = form.schema is None
        found["response_format"] = {"json_object": True} if any_object else {"json": form.schema}
    elif isinstance(form, JsonSchemaFormat):
        found["response_format"] = {"json": _schema_of(form)}
    elif isinstance(form, StructuralTagFormat):
        found["response_format"] = {"structural_tag": _text(form)}
    if body.structured_outputs is not None:
        fields = msgspec.structs.asdict(body.structured_outputs)
        del fields["disable_additional_properties"]
        found["structured_outputs"] = {k: v for k, v in fields.items() if v is not None}
    for field, parameter in _PARAMETER_OF_FIELD.items():
        value = getattr(body, field)
        if value is not None:
            found[field] = {parameter: value}
    return found


def _schema_of(form: JsonSchemaFormat) -> dict[str, Any]:
    named, beside = form.json_schema, form.schema
    if named is not None and beside is not None:
        raise InvalidRequest(
            "response_format.schema: json_schema has a schema already; give one of them",
            field="response_format.schema",
        )
    if named is None and beside is None:
        raise InvalidRequest(
            "response_format.json_schema is required", field="response_format.json_schema"
        )
    return named.schema if named is not None else beside or {}


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
