"""What cannot be given is refused: nothing is cut short, and no field of a message is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headway.llm.rendering import ChatRenderer
from headway.server.openai import fit
from headway.text import ChatTemplate, TextConfig
from tests.server.conftest import Running, serving

HELLO = [{"role": "user", "content": "x"}]
COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(max_model_len=50) as running:
        yield running


def param_of(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    found: str = answer.json()["error"]["param"]
    return found


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        # The prompt "x" has two tokens, the conversation 17.
        (COMPLETIONS, {"prompt": "x", "max_tokens": 49}, "max_tokens"),
        (COMPLETIONS, {"prompt": ["x", "x" * 20], "max_tokens": 30}, "max_tokens"),
        (COMPLETIONS, {"prompt": "x" * 40, "min_tokens": 12}, "min_tokens"),
        (
            COMPLETIONS,
            {"prompt": "x", "truncate_prompt_tokens": -1, "max_tokens": 50},
            "max_tokens",
        ),
        (CHAT, {"messages": HELLO, "max_tokens": 34}, "max_tokens"),
        (CHAT, {"messages": HELLO, "max_completion_tokens": 34}, "max_completion_tokens"),
        (CHAT, {"messages": HELLO, "min_tokens": 34}, "min_tokens"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(
    http: httpx.Client, path: str, body: dict[str, Any], field: str
) -> None:
    answer = http.post(path, json=body)
    assert param_of(answer) == field
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert "context of 50" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        (COMPLETIONS, {"prompt": "x", "max_tokens": 48}, 48),
        (COMPLETIONS, {"prompt": "x" * 40}, 9),
        (COMPLETIONS, {"prompt": "x" * 40, "min_tokens": 9}, 9),
        (COMPLETIONS, {"prompt": "x" * 90, "truncate_prompt_tokens": -1, "max_tokens": 30}, 30),
        (COMPLETIONS, {"prompt": "x" * 90, "truncate_prompt_tokens": -1}, 1),
        (CHAT, {"messages": HELLO, "max_tokens": 33}, 33),
        (CHAT, {"messages": HELLO}, 33),
    ],
)
def test_what_is_left_open_is_as_much_as_fits(
    http: httpx.Client, path: str, body: dict[str, Any], tokens: int
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == tokens


@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
def test_a_field_of_a_message_that_no_template_shows(http: httpx.Client, path: str) -> None:
    messages = [HELLO[0], {"role": "assistant", "content": "y", "name": "z"}]
    answer = http.post(path, json={"messages": messages})
    assert param_of(answer) == "messages[1].name"
    assert "chat template does not show it" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["name", "tool_call_id", "reasoning_content", "reasoning"])
def test_a_field_of_a_message_that_the_template_shows(name: str) -> None:
    source = f"{{% for m in messages %}}{{{{ m.{name} }}}}:{{{{ m.content }}}}{{% endfor %}}"
    with serving() as server, server.http() as http:
        template = ChatTemplate(source, TextConfig(eos_token_ids=()))
        server.llm.chat_template = ChatRenderer.trusted(template)
        body = {"messages": [HELLO[0] | {name: "Ann"}]}
        tokens = http.post("/tokenize", json=body).json()["tokens"]
        assert "".join(map(chr, tokens)) == "Ann:x"


@pytest.mark.parametrize(
    ("path", "messages"),
    [
        (CHAT, HELLO * 51),
        (CHAT, [{"role": "user", "content": "x" * 6401}]),
        (CHAT, [{"role": "user", "content": [{"type": "text", "text": "x" * 3201}] * 2}]),
        ("/tokenize", [{"role": "user", "content": "x" * 3201}] * 2),
    ],
)
def test_a_conversation_that_cannot_fit_is_not_rendered(
    server: Running, monkeypatch: pytest.MonkeyPatch, path: str, messages: list[Any]
) -> None:
    rendered: list[object] = []
    monkeypatch.setattr(server.llm, "render", lambda *given, **_: rendered.append(given))
    with server.http() as http:
        answer = http.post(path, json={"messages": messages})
    assert param_of(answer) == "messages"
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert rendered == []


@pytest.mark.parametrize("prompt", [[5, 6], [[5], [6, 7]]])
def test_special_tokens_cannot_be_added_to_token_ids(http: httpx.Client, prompt: list[Any]) -> None:
    body = {"prompt": prompt, "max_tokens": 1}
    assert param_of(http.post(COMPLETIONS, json=body | {"add_special_tokens": True})) == (
        "add_special_tokens"
    )
    plain = http.post(COMPLETIONS, json=body | {"add_special_tokens": False})
    assert plain.status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": [5] * 10, "n": 2, "prompt_logprobs": 3}, "prompt_logprobs"),
        ({"prompt": [[5] * 10] * 2, "echo": True, "logprobs": 3}, "logprobs"),
        (
            {"prompt": [[5] * 10] * 2, "echo": True, "logprobs": 1, "prompt_logprobs": 3},
            "prompt_logprobs",
        ),
    ],
)
def test_an_answer_holds_so_many_log_probabilities_of_prompts(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], field: str
) -> None:
    monkeypatch.setattr(fit, "MAX_SCORES", 80)
    assert http.post(COMPLETIONS, json=body | {"max_tokens": 1}).status_code == 200
    monkeypatch.setattr(fit, "MAX_SCORES", 79)
    assert param_of(http.post(COMPLETIONS, json=body | {"max_tokens": 1})) == field


WHOLE: dict[str, dict[str, Any]] = {
    "logprobs": {"prompt": "x", "logprobs": -1},
    "prompt_logprobs": {"prompt": "xy", "prompt_logprobs": -1},
    "top_logprobs": {
        "messages": [{"role": "user", "content": "x"}],
        "logprobs": True,
        "top_logprobs": -1,
    },
}


@pytest.mark.parametrize("field", WHOLE)
def test_an_answer_holds_so_many_of_the_whole_vocabulary(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """The stand-in has more than a million tokens, and scores three of them."""
    path = CHAT if "messages" in WHOLE[field] else COMPLETIONS
    refused = http.post(path, json=WHOLE[field] | {"max_tokens": 1})
    assert param_of(refused) == field
    assert "1,048,576" in refused.json()["error"]["message"]
    monkeypatch.setattr(fit, "MAX_SCORES", 2**30)
    [choice] = http.post(path, json=WHOLE[field] | {"max_tokens": 2}).json()["choices"]
    found = {
        "logprobs": lambda: choice["logprobs"]["top_logprobs"][1],
        "prompt_logprobs": lambda: choice["prompt_logprobs"][1],
        "top_logprobs": lambda: choice["logprobs"]["content"][1]["top_logprobs"],
    }[field]()
    assert len(found) == 3
    streamed = http.post(path, json=WHOLE[field] | {"stream": True})
    assert param_of(streamed) == field


def test_every_name_that_is_no_token_id_is_told(http: httpx.Client) -> None:
    body = {"prompt": "x", "logit_bias": {"5": 1, "five": 1, "-1": 1}}
    answer = http.post(COMPLETIONS, json=body)
    assert param_of(answer) == "logit_bias"
    assert "'five', '-1'" in answer.json()["error"]["message"]
