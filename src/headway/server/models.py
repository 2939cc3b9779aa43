"""`GET /v1/models` and `/v1/models/{id}`: under which names the one model is served."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.server.house import House
from headway.server.replies import json_response


class Model(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "headway"
    root: str
    parent: None = None
    max_model_len: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[Model]


async def list_models(request: Request) -> Response:
    house: House = request.app.state.house
    return json_response(ModelList(data=[_model(house, name) for name in house.names]))


async def get_model(request: Request) -> Response:
    house: House = request.app.state.house
    name = request.path_params["model"]
    house.check_model(name)
    return json_response(_model(house, name))


def _model(house: House, name: str) -> Model:
    return Model(
        id=name,
        created=house.started,
        root=house.names[0],
        max_model_len=house.backend.max_model_len,
    )
