"""Whether a value is valid under a JSON Schema, formats included."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Any

import jsonschema

_FORMATS = jsonschema.FormatChecker(("uuid", "ipv4", "ipv6"))


def _moment(text: str) -> str:
    """RFC 3339's letters, leap seconds and year 0 as Python reads them."""
    return re.sub("^0000", "2000", text.upper().replace(":60", ":59"))


@_FORMATS.checks("date", raises=ValueError)
def _is_date(value: object) -> bool:
    return not isinstance(value, str) or bool(date.fromisoformat(_moment(value)))


@_FORMATS.checks("time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or time.fromisoformat(_moment(value)).tzinfo is not None


@_FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(_moment(value)).tzinfo is not None


def validate(value: Any, schema: dict[str, Any]) -> None:
    """Raise `jsonschema.ValidationError` where the value is not valid under draft 2020-12."""
    validator = jsonschema.Draft202012Validator(schema, format_checker=_FORMATS)
    validator.validate(value)
