"""The environment, which is read here and nowhere else in the package: variables that stand for
flags, and the folder of models."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from headway.errors import InvalidRequest, did_you_mean

_OTHER_VARIABLES = ("HEADWAY_HOME", "HEADWAY_URL")
"""Variables that stand for no flag; the second is what the examples read."""
_SERVICE_LINK = re.compile(
    r"HEADWAY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def cache_home(environment: Mapping[str, str] | None = None) -> Path:
    """The folder for downloaded and prepared models: `HEADWAY_HOME`, else the platform's cache.

    It may not exist yet. Raises `InvalidRequest` where something else is in its place.
    """
    from platformdirs import user_cache_path

    given = (os.environ if environment is None else environment).get("HEADWAY_HOME")
    home = Path(given).expanduser() if given else user_cache_path("headway")
    try:
        if home.is_dir():
            return home
        blocked = next(path for path in (home, *home.parents) if path.exists())
    except OSError as error:
        raise InvalidRequest(
            f"HEADWAY_HOME: {home} cannot be read: {error.strerror}", field="HEADWAY_HOME"
        ) from error
    if not blocked.is_dir():
        raise InvalidRequest(
            f"HEADWAY_HOME: models cannot be kept in {home}, as {blocked} is not a folder",
            field="HEADWAY_HOME",
        )
    return home


def locale_environment() -> dict[str, str]:
    """Of the environment, what a process may see that runs what others wrote: no secrets."""
    return {name: os.environ[name] for name in ("TZ", "LANG", "LC_ALL") if name in os.environ}


def from_environment(flag: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The value of `HEADWAY_...` that stands for a command-line flag such as `--max-num-seqs`.

    Kubernetes sets HEADWAY_PORT=tcp://... in every container beside a Service named headway; such
    an address is no setting.
    """
    value = (os.environ if environment is None else environment).get(_variable(flag))
    return None if value is None or _LINK_ADDRESS.match(value) else value


def check_environment(flags: Iterable[str], environment: Mapping[str, str] | None = None) -> None:
    """Raise `InvalidRequest` for a variable `HEADWAY_...` that stands for none of these flags."""
    known = {*_OTHER_VARIABLES, *map(_variable, flags)}
    for name, value in (os.environ if environment is None else environment).items():
        if (
            name.startswith("HEADWAY_")
            and name not in known
            and not _SERVICE_LINK.fullmatch(name)
            and not _LINK_ADDRESS.match(value)
        ):
            raise InvalidRequest(
                f"the environment variable {name} is no setting of Headway"
                f"{did_you_mean(name, known)}",
                field=name,
            )


def _variable(flag: str) -> str:
    return "HEADWAY_" + flag.lstrip("-").replace("-", "_").upper()
