"""`GET /` and the files that the page consists of.

A browser asks for HTML at `/` and gets the page; whoever asks otherwise looks whether anybody is
there, as Ollama's clients do, and gets a line of text. Neither needs a key, for neither tells
anything. With `--no-page` there is the line alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from headway.server.admission import ServerState
from headway.server.openapi import Endpoint
from headway.server.page.files import HEADERS, INDEX, PageFile, page_files

RUNNING = "Headway is running"


async def root(request: Request) -> Response:
    """The page for browsers, a line of text for everybody else."""
    if _is_on(request) and "text/html" in request.headers.get("accept", ""):
        return _answer(request, (await _files())[INDEX])
    return PlainTextResponse(RUNNING, headers={"vary": "accept"})


async def page_file(request: Request) -> Response:
    """One of the page's scripts and styles; 404 for any other name."""
    found = (await _files()).get(request.path_params["name"]) if _is_on(request) else None
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return _answer(request, found)


def _is_on(request: Request) -> bool:
    state: ServerState = request.app.state.server
    return state.config.page


async def _files() -> Mapping[str, PageFile]:
    return await asyncio.to_thread(page_files)  # The first time they are read from the disk.


def _answer(request: Request, file: PageFile) -> Response:
    """The file, packed for those who can unpack it, or 304 where the browser has it already."""
    headers = HEADERS | {"etag": file.etag}
    known = request.headers.get("if-none-match", "")
    if file.etag in (each.strip() for each in known.split(",")):
        return Response(None, HTTPStatus.NOT_MODIFIED, headers)
    content = file.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["content-encoding"] = file.packed, "gzip"
    return Response(content, HTTPStatus.OK, headers, file.media_type)


PAGE_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/",
        handler=root,
        summary="The page for browsers; for others, says that the server runs.",
        media_type="text/plain",
    ),
    Endpoint(
        method="GET",
        path="/page/{name}",
        handler=page_file,
        summary="A script or style of the page.",
        described=False,
    ),
)
