"""Flags whose value is JSON, of which vLLM's scripts also give the parts by names with dots.

`--speculative-config.method ngram --speculative-config.prompt_lookup_max 4` is one value in two
parts; so are the keys `speculative-config.method` and so on in a `--config` file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headway.errors import InvalidRequest

JSON_FLAGS = ("--speculative-config", "--override-generation-config")


def joined_words(words: Sequence[str]) -> list[str]:
    """Words of a command line with the parts of each such flag as one word, after the others.

    Parts are written `FLAG.KEY=VALUE`. Raises `InvalidRequest` for a key that is given twice.
    """
    given: dict[str, dict[str, Any]] = {}
    others: list[str] = []
    for number, word in enumerate(words):
        if word == "--":
            others += words[number:]
            break
        name, equals, value = word.partition("=")
        flag, _, key = name.partition(".")
        if flag not in JSON_FLAGS or not equals:
            others.append(word)
        elif key:
            _put(given, flag, {_plain(key): _value(value)})
        else:
            whole = _value(value)
            # What is no object is for the setting itself to refuse.
            _put(given, flag, whole) if isinstance(whole, dict) else others.append(word)
    if not given:
        return others
    whole_words = [f"{flag}={json.dumps(parts)}" for flag, parts in given.items()]
    place = others.index("--") if "--" in others else len(others)
    return [*others[:place], *whole_words, *others[place:]]


def joined_settings(file: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the settings of a file, whose names have underscores and no dashes before."""
    given: dict[str, dict[str, Any]] = {}
    others: dict[str, Any] = {}
    for name, value in file.items():
        setting, dot, key = name.partition(".")
        flag = "--" + setting.replace("_", "-")
        if flag not in JSON_FLAGS:
            others[name] = value
        elif dot:
            _put(given, flag, {_plain(key): _value(value) if isinstance(value, str) else value})
        else:
            whole = _value(value) if isinstance(value, str) else value
            if isinstance(whole, dict):
                _put(given, flag, whole)
            else:
                others[name] = value
    for flag, parts in given.items():
        others[flag.removeprefix("--").replace("-", "_")] = json.dumps(parts)
    return others


def _put(given: dict[str, dict[str, Any]], flag: str, parts: Mapping[str, Any]) -> None:
    known = given.setdefault(flag, {})
    for key, value in parts.items():
        if key in known:
            raise InvalidRequest(f"{flag}: {key} is given twice", field=flag)
        known[key] = value


def _plain(key: str) -> str:
    return key.replace("-", "_")


def _value(text: str) -> Any:
    """JSON as what it says, other words as they are."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
