"""The page's files, read once and held in memory with the headers that they are sent with.

Browsers keep a copy and ask each time whether it still is the newest (`ETag`), so a server of
another version never meets scripts of an old one. The headers let the page load scripts and styles
from this server alone, and keep it out of frames on other sites.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What a browser lets the page do: nothing from elsewhere, nothing written inside the HTML."""
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "accept, accept-encoding",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """One file as it is sent."""

    content: bytes
    packed: bytes
    """The same, as gzip has it: about a third."""
    media_type: str
    etag: str
    """With its quotes; weak, as it is the same for both."""


@cache
def page_files() -> Mapping[str, PageFile]:
    """Every file of the page, by its name; read from the package on the first call."""
    folder = files("headway.server.page") / "static"
    found = {}
    for entry in folder.iterdir():
        media_type = MEDIA_TYPES.get("." + entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = PageFile(
                content=content,
                packed=gzip.compress(content, mtime=0),
                media_type=media_type,
                etag=f'W/"{sha256(content).hexdigest()[:32]}"',
            )
    return found
