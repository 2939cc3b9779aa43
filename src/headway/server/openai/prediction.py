"""Predicted outputs: what a client expects of the answer, as tokens that drafts are taken from.

No token depends on them (see docs/speculation.md), so what is beyond the context is left out rather
than refused.
"""

from __future__ import annotations

from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.server.openai.sampling import field_aliases
from headway.server.openai.schema import ChatBody


async def predicted_tokens(body: ChatBody, llm: AsyncLLM) -> tuple[int, ...]:
    """The tokens of the prediction, at most as many as the context has; none without one.

    A long text is encoded off the event loop. Raises `InvalidRequest` that names the field where
    there can be no drafts.
    """
    if body.prediction is None:
        return ()
    if body.use_beam_search:
        raise InvalidRequest(
            "prediction would have no effect on a search of beams, which settles no token before "
            "its end; leave it out",
            field="prediction",
        )
    content = body.prediction.content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    with field_aliases({"prompt": "prediction"}):
        encoded = await llm.encode(text, add_special_tokens=False, truncate_to=-1, keep_first=True)
    return encoded.token_ids
