"""`GET /tokenizer_info`: what vLLM's server tells of a tokenizer, where the operator lets it."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.server.admission import ServerState
from headway.server.body import json_response
from headway.server.errors import plain_error


class AddedToken(msgspec.Struct, frozen=True, kw_only=True):
    content: str
    special: bool = True


class TokenizerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Under the names of tokenizer_config.json; null for a token that there is not."""

    tokenizer_class: str = "PreTrainedTokenizerFast"
    """What reads its files in Python."""
    model_max_length: int
    """Tokens of the context, as the server was started."""
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None
    add_bos_token: bool
    add_eos_token: bool
    add_prefix_space: bool
    clean_up_tokenization_spaces: bool = False
    additional_special_tokens: list[str]
    added_tokens_decoder: dict[str, AddedToken]
    """The special tokens, by their ids."""
    chat_template: str | None


async def tokenizer_info(request: Request) -> Response:
    state: ServerState = request.app.state.server
    if not state.config.enable_tokenizer_info_endpoint:
        reason = "start the server with --enable-tokenizer-info-endpoint"
        return plain_error(404, f"the tokenizer is not told of: {reason}", scope=request.scope)
    llm = state.llm
    text, tokenizer = llm.tokenizer.config, llm.tokenizer
    special = {token: tokenizer.token_text(token) for token in sorted(tokenizer.special_ids)}
    return json_response(
        TokenizerInfo(
            model_max_length=llm.max_model_len,
            bos_token=text.bos_token or None,
            eos_token=text.eos_token or None,
            pad_token=text.pad_token or None,
            unk_token=text.unk_token or None,
            add_bos_token=text.add_bos,
            add_eos_token=text.add_eos,
            add_prefix_space=text.add_space_prefix,
            additional_special_tokens=list(special.values()),
            added_tokens_decoder={str(n): AddedToken(content=each) for n, each in special.items()},
            chat_template=None if llm.chat_template is None else llm.chat_template.source,
        )
    )
