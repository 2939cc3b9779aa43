"""Models of the Hugging Face hub: fetched into the cache by a child process.

The child is the hub's own client. It keeps what it fetched, and resumes what it was interrupted in.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from headway.checkpoint.huggingface import hub_download
from headway.checkpoint.progress import check_stop, progress_of
from headway.codec import parse
from headway.errors import ModelNotFound

_PREFIX = "models--"
_POLL_SECONDS = 0.1


def hub_folder(home: Path) -> Path:
    return home / "downloads" / "hub"


def downloaded_from_hub(home: Path, name: str) -> Path | None:
    """The folder of a repository's download, if it is there; `name` may end in `:file`."""
    folder = hub_folder(home) / (_PREFIX + name.partition(":")[0].replace("/", "--"))
    return folder if folder.is_dir() else None


def name_on_hub(folder: Path) -> str | None:
    """The reverse: what a folder of the downloads is named on the hub; None for other folders."""
    if not folder.name.startswith(_PREFIX):
        return None
    return folder.name.removeprefix(_PREFIX).replace("--", "/")


def fetch_from_hub(
    name: str, home: Path, *, progress: bool, stop: threading.Event | None = None
) -> Path:
    """A repository's folder, or the one GGUF file that is named; raises `ModelNotFound`."""
    repository, _, file = name.partition(":")
    bars = progress and sys.stderr.isatty()  # the client has its own
    command = [sys.executable, "-P", hub_download.__file__, repository, str(hub_folder(home)), file]
    environment = os.environ if bars else os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment
    ) as process:
        try:
            _wait(process, name, logs=not bars, stop=stop)
        except BaseException:
            process.kill()
            raise
        assert process.stdout is not None
        told = process.stdout.read()
    try:
        answer = parse(dict[str, str], told)
    except ValueError:
        answer = {"error": f"the download ended with exit code {process.returncode}"}
    if "path" not in answer:
        raise ModelNotFound(
            f"{name}: not found on, or not downloaded from, the Hugging Face hub: "
            f"{answer['error']}",
            field="model",
        )
    return Path(answer["path"])


def _wait(
    process: subprocess.Popen[bytes], name: str, *, logs: bool, stop: threading.Event | None
) -> None:
    shown = progress_of("downloading", name, 0, bar=False) if logs else contextlib.nullcontext()
    with shown:
        while process.poll() is None:
            check_stop(stop)
            time.sleep(_POLL_SECONDS)
