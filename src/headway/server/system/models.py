"""`GET /v1/models` and `/v1/models/{id}`: under which names the one model is served."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.server.admission import ServerState
from headway.server.body import json_response


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "headway"
    root: str
    parent: None = None
    max_model_len: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelCard]


async def list_models(request: Request) -> Response:
    state: ServerState = request.app.state.server
    return json_response(ModelList(data=[_model(state, name) for name in state.names]))


async def get_model(request: Request) -> Response:
    state: ServerState = request.app.state.server
    name = request.path_params["model"]
    state.check_model(name)
    return json_response(_model(state, name))


def _model(state: ServerState, name: str) -> ModelCard:
    return ModelCard(
        id=name,
        created=state.created,
        root=state.names[0],
        max_model_len=state.llm.max_model_len,
    )
