"""Fields of requests that ask for nothing here: taken with their types checked, and that is all.

Clients send them because other servers give them a meaning: OpenAI's billing, storage and caches
by key, vLLM's other ways of sampling at the values that mean none of them. What such a field could
ask beyond that is refused, by its type. docs/fields.md has a line for each; every other field that
a body has makes a difference.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

ShortText = Annotated[str, Meta(max_length=512)]


class StrictBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every body: unknown fields are errors."""


class HarmlessFields(StrictBody, frozen=True, kw_only=True):
    """Of completions and chat completions."""

    metadata: Annotated[dict[str, Any] | None, Meta(description="Not kept.")] = None
    store: Annotated[bool | None, Meta(description="Nothing is stored.")] = None
    prompt_cache_key: Annotated[
        ShortText | None, Meta(description="Equal prefixes are found without; see `cache_salt`.")
    ] = None
    prompt_cache_retention: Annotated[
        ShortText | None, Meta(description="Prefixes are kept while there is room.")
    ] = None
    prompt_cache_options: Annotated[
        dict[str, Any] | None, Meta(description="Prefixes are kept while there is room.")
    ] = None
    safety_identifier: Annotated[ShortText | None, Meta(description="Not looked at.")] = None
    verbosity: Annotated[
        Literal["low", "medium", "high"] | None, Meta(description="The model decides.")
    ] = None
    spaces_between_special_tokens: Annotated[
        Literal[True] | None, Meta(description="Text is the tokens' own.")
    ] = None
    session_id: Annotated[ShortText | None, Meta(description="Not looked at.")] = None
