"""Where profiles are kept: a folder of the cache, a file for each model, format and device.

A new profile of the same takes the place of the old one, at once or not at all. Files that cannot
be read are no hindrance to a search; asked for by name, they are an error.
"""

from __future__ import annotations

import os
from pathlib import Path

from headway.config import cache_home
from headway.errors import InvalidRequest
from headway.latency.profile import Profile

_LARGEST = 2**20


def profiles_folder() -> Path:
    return cache_home() / "profiles"


def keep_profile(profile: Profile, *, folder: Path | None = None) -> Path:
    """Store a profile; returns its file."""
    folder = folder or profiles_folder()
    path = folder / f"{profile.name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(profile.to_json(), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", field="profile") from error
    return path


def read_profile(path: Path) -> Profile:
    """The profile in a file; raises `InvalidRequest` for one that cannot be read."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field="profile") from error
    if len(text) > _LARGEST:
        raise InvalidRequest(f"{path} is too large for a profile", field="profile")
    return Profile.from_json(text, source=str(path))


def load_profile(name: str, *, folder: Path | None = None) -> Profile:
    """A stored profile by its name, or the one in the file of that path."""
    kept = (folder or profiles_folder()) / f"{name}.json"
    if kept.is_file():
        return read_profile(kept)
    if Path(name).is_file():
        return read_profile(Path(name))
    names = ", ".join(profile_names(folder=folder)) or "none yet; `headway profile` makes one"
    raise InvalidRequest(
        f"{name!r} is neither a file nor a stored profile ({names})", field="profile"
    )


def profile_names(*, folder: Path | None = None) -> list[str]:
    """Names of the stored profiles, in alphabetical order."""
    return sorted(path.stem for path in _files(folder))


def find_profile(
    *,
    model: str | None = None,
    dtype: str | None = None,
    kv_cache_dtype: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    backend: str | None = None,
    folder: Path | None = None,
) -> Profile | None:
    """The newest stored profile that agrees with all that is given, or None."""
    wanted = {
        "dtype": dtype,
        "kv_cache_dtype": kv_cache_dtype,
        "device": device,
        "threads": threads,
        "backend": backend,
    }
    for path in sorted(_files(folder), key=_age):
        try:
            profile = read_profile(path)
        except InvalidRequest:
            continue
        if model is not None and model.lower() not in (profile.model.lower(), profile.name):
            continue
        if all(value in (None, getattr(profile, name)) for name, value in wanted.items()):
            return profile
    return None


def _files(folder: Path | None) -> list[Path]:
    folder = folder or profiles_folder()
    return [path for path in folder.glob("*.json") if not path.name.startswith(".")]


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0
