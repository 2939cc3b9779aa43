"""Profiles: all that a simulator must know of one model on one machine, as plain data and files.

Measured profiles come from a fit, others from published rates. They are kept in a folder of the
cache, a file for each model, number format and device, where a new one takes the place of the old
one. Files that cannot be read are passed over by a search; asked for by name, they are an error.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from headway.codec import Format, decode_document, encode_document, read_bytes, write_bytes
from headway.environment import cache_home
from headway.errors import InvalidRequest
from headway.steptime.fit import Fit
from headway.steptime.model import Residuals, StepTimeModel
from headway.steptime.shape import Features, ModelSizes, PeakRates
from headway.types.engine import Hardware, SchedulerConfig

FORMAT = Format(
    what="a profile of Headway",
    key="headway_profile",
    version=2,
    remedy="make it anew with `headway profile`",
)
_LARGEST = 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How long steps take, and the bounds under which that was found out."""

    model: str
    hardware: Hardware
    scheduler: SchedulerConfig
    """The engine that was measured; a simulated one takes over what is not set otherwise."""
    sizes: ModelSizes
    machine: PeakRates
    coefficients: Features
    residuals: Residuals
    fit: Fit | None
    """None where nothing was measured."""

    def step_times(self) -> StepTimeModel:
        """The model of its steps' times, made anew by each call."""
        return StepTimeModel(self.sizes, self.machine, self.coefficients)

    @property
    def name(self) -> str:
        """A file's name without its ending, the same for the same question."""
        found = self.hardware
        kernels = found.backend.partition(" ")[0]
        formats = (found.dtype, found.kv_cache_dtype, kernels)
        parts = (self.model, *formats, found.device, f"{found.threads}t")
        return "-".join(_plain(part) for part in parts if part)

    def to_json(self) -> str:
        return encode_document(self, FORMAT).decode()

    @staticmethod
    def from_json(text: str | bytes, *, source: str = "profile") -> Profile:
        """The reverse of `to_json`; raises `InvalidRequest`, which names `source` and the key."""
        return decode_document(Profile, text, FORMAT, source)


def _plain(part: str) -> str:
    kept = "".join(each if each.isalnum() or each in "._" else "-" for each in part.lower())
    return "-".join(filter(None, kept.split("-")))


def profiles_folder() -> Path:
    return cache_home() / "profiles"


def keep_profile(profile: Profile, *, folder: Path | None = None) -> Path:
    """Store a profile; returns its file."""
    path = (folder or profiles_folder()) / f"{profile.name}.json"
    write_bytes(path, profile.to_json().encode(), make_folder=True)
    return path


def read_profile(path: Path) -> Profile:
    """The profile in a file; raises `InvalidRequest` for one that cannot be read."""
    return Profile.from_json(read_bytes(path, most=_LARGEST), source=str(path))


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
    *, model: str | None = None, folder: Path | None = None, **hardware: str | int | None
) -> Profile | None:
    """The newest stored profile that agrees with all that is given, or None.

    `hardware` is any of the fields of `Hardware`.
    """
    for path in sorted(_files(folder), key=_age):
        try:
            profile = read_profile(path)
        except InvalidRequest as error:
            logger.warning("this profile is passed over: %s", error)
            continue
        if model is not None and model.lower() not in (profile.model.lower(), profile.name):
            continue
        if all(getattr(profile.hardware, name) == value for name, value in hardware.items()):
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
