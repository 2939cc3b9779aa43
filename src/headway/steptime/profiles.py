"""A profile: everything a simulator needs of one model on one machine, as plain data and as JSON.

Measured profiles come from a fit, others from public numbers. The JSON names its version, and is
read strictly: a key that is missing, unknown or of another type is an error that names it.

Where profiles are kept: a folder of the cache, a file for each model, format and device.

A new profile of the same takes the place of the old one, at once or not at all. Files that cannot
be read are no hindrance to a search; asked for by name, they are an error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from dataclasses import dataclass
from pathlib import Path

from headway.config import cache_home
from headway.errors import InvalidRequest
from headway.steptime.features import Features
from headway.steptime.fit import Fit
from headway.steptime.model import Residuals, StepTimeModel
from headway.steptime.shape import ModelSizes, PeakRates
from headway.types import Limits

VERSION = 1
_VERSION_KEY = "headway_profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How long steps take, and the bounds under which that was found out."""

    model: str
    dtype: str
    kv_cache_dtype: str
    device: str
    """Where steps are computed: "cpu", "cuda:0", or the name of a device in a data file."""
    threads: int
    sizes: ModelSizes
    machine: PeakRates
    coefficients: Features
    residuals: Residuals
    fit: Fit | None
    """None where nothing was measured."""
    limits: Limits
    block_size: int
    num_blocks: int
    backend: str = ""
    """Which kernels computed; empty where nothing did."""

    def step_times(self) -> StepTimeModel:
        """The model of its steps' times, made anew by each call."""
        return StepTimeModel(self.sizes, self.machine, self.coefficients)

    @property
    def name(self) -> str:
        """A file's name without its ending, the same for the same question."""
        kernels = self.backend.partition(" ")[0]
        form = (self.dtype, self.kv_cache_dtype, kernels)
        parts = (self.model, *form, self.device, f"{self.threads}t")
        return "-".join(_plain(part) for part in parts if part)

    def to_json(self) -> str:
        values = {_VERSION_KEY: VERSION} | {
            field.name: _written(getattr(self, field.name)) for field in dataclasses.fields(self)
        }
        return json.dumps(values, indent=1) + "\n"

    @staticmethod
    def from_json(text: str | bytes, *, source: str = "profile") -> Profile:
        """The reverse of `to_json`; raises `InvalidRequest`, which names `source` and the key."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{source} is not JSON: {error}", field="profile") from error
        if not isinstance(values, dict) or _VERSION_KEY not in values:
            raise InvalidRequest(f"{source} is not a profile of Headway", field="profile")
        version = values.pop(_VERSION_KEY)
        if version != VERSION:
            raise InvalidRequest(
                f"{source} has version {version!r} of the format and this Headway reads {VERSION}: "
                "make it anew with `headway profile`",
                field="profile",
            )
        found: Profile = _read(Profile, values, source)
        return found


def _plain(part: str) -> str:
    kept = "".join(each if each.isalnum() or each in "._" else "-" for each in part.lower())
    return "-".join(filter(None, kept.split("-")))


def _written(value: object) -> object:
    """Dataclasses and named tuples as objects, other tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: _written(each) for name, each in pairs}
    if isinstance(value, Features):
        return value._asdict()
    return list(value) if isinstance(value, tuple) else value


def _read(kind: typing.Any, value: object, where: str) -> typing.Any:
    """`value` as `kind`: a dataclass, the features, a tuple of floats, a plain type or None."""
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if kind is Features or dataclasses.is_dataclass(kind):
        return _read_object(kind, value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        return tuple(_read(float, each, where) for each in value)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # Neither infinity nor "not a number", which Python's reader lets through.
        if not number or not abs(typing.cast(float, value)) <= 1e300:
            raise _wrong(where, "a number", value)
        return float(typing.cast(float, value))
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong(where, {int: "a whole number", str: "a text"}[kind], value)
    return value


def _read_object(kind: typing.Any, value: object, where: str) -> typing.Any:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    hints = typing.get_type_hints(kind)
    names = (
        set(Features._fields) if kind is Features else {f.name for f in dataclasses.fields(kind)}
    )
    for name in sorted(names ^ value.keys()):
        problem = "is missing" if name in names else "is not known"
        raise InvalidRequest(f"{where}: the key {name!r} {problem}", field="profile")
    return kind(**{name: _read(hints[name], value[name], f"{where}: {name}") for name in names})


def _wrong(where: str, wanted: str, value: object) -> InvalidRequest:
    return InvalidRequest(f"{where} must be {wanted}, not {value!r:.40}", field="profile")


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
