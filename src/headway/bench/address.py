"""Where a server is: a base URL, taken apart and checked once."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from headway.errors import InvalidRequest

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A base URL's parts."""

    host: str
    port: int
    secure: bool
    prefix: str
    """Path before the endpoints', without a slash at its end; mostly empty."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """From `http://host:port`, with or without the `/v1` that clients of OpenAI's API add.

        Raises `InvalidRequest` naming `--base-url`.
        """
        try:
            parts = urlsplit(url if "://" in url else "http://" + url)
            port = parts.port
        except ValueError as error:
            raise _wrong(url, str(error)) from error
        if parts.scheme not in PORTS:
            raise _wrong(url, f"{parts.scheme} is neither http nor https")
        if not parts.hostname or parts.query or parts.fragment or parts.username:
            raise _wrong(url, "it needs a host and has room for nothing but a port and a path")
        if any(not 33 <= ord(letter) <= 126 for letter in url):
            raise _wrong(url, "it holds blanks, or letters that must be percent-encoded")
        return cls(
            host=parts.hostname,
            port=PORTS[parts.scheme] if port is None else port,
            secure=parts.scheme == "https",
            prefix=parts.path.rstrip("/").removesuffix("/v1"),
        )

    @property
    def name(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https" if self.secure else "http"] else self.at

    @property
    def at(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.at}{self.prefix}"


def _wrong(url: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"--base-url {url!r} is no address of a server: {why}; one is http://127.0.0.1:8000",
        field="--base-url",
    )
