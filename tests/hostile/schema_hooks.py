"""What the API demands of a body beyond its JSON Schema, for schemathesis.

JSON Schema compares no field with another, and knows no tokens. Bodies that schemathesis made to be
accepted are brought in line with these rules, which the fields' descriptions tell users; what it
made to be refused is left alone. `tests/hostile/schema.py` runs it.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

FEW_TOKENS = 8
"""So that no answer takes long, and prompt and answer fit the context."""


@schemathesis.hook
def before_call(_context: Any, case: Any, **_: Any) -> None:
    # What is wrong may be a header, and the body all right.
    wrong = case.meta is not None and case.meta.is_negative_at(ParameterLocation.BODY)
    if not wrong and isinstance(case.body, dict):
        if case.path in ("/v1/completions", "/v1/chat/completions"):
            mend(case.body)
        elif case.path == "/tokenize" and case.body.get("continue_final_message"):
            mend_turns(case.body)


def mend(body: dict[str, Any]) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        if body.get(name) is not None:
            body[name] = min(body[name], FEW_TOKENS)
    if "messages" in body:
        mend_chat(body)
    elif "prompt" in body:
        mend_completion(body)
    if body.get("min_tokens"):
        most = body.get("max_completion_tokens") or body.get("max_tokens") or FEW_TOKENS
        body["min_tokens"] = min(body["min_tokens"], most)
    if body.get("allowed_token_ids"):
        # Something must be left to choose: tokens that end the answer are not, before `min_tokens`.
        body["min_tokens"] = body["bad_words"] = None
    if body.get("slo"):
        body["service_tier"] = None
    # Greedy continuations are all the same.
    if body.get("n"):
        body["n"] = 1 if body.get("temperature") == 0 else min(body["n"], 4)
    if body.get("stream"):
        body["prompt_logprobs"] = None
    else:
        body["stream_options"] = None


def mend_chat(body: dict[str, Any]) -> None:
    if body.get("max_completion_tokens") is not None:
        body["max_tokens"] = None
    elif body.get("max_tokens") is None:
        body["max_tokens"] = FEW_TOKENS
    if not body.get("logprobs"):
        body["top_logprobs"] = None
    mend_turns(body)


def mend_completion(body: dict[str, Any]) -> None:
    if body.get("max_tokens") == 0 and not (body.get("echo") and not body.get("stream")):
        body["max_tokens"] = 1
    if body.get("stream") and body.get("logprobs") is not None:
        body["echo"] = None
    body["best_of"] = None
    prompt = body["prompt"]
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], str):
        body["add_special_tokens"] = None


def mend_turns(body: dict[str, Any]) -> None:
    """The last message is gone on with only where it is the model's, and then nothing begins."""
    if body.get("continue_final_message") and body.get("messages"):
        body["add_generation_prompt"] = False
        body["messages"][-1]["role"] = "assistant"
