"""Which sampling defaults a model has: its files', another file's, or none; and overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headway.codec import decode, read_bytes
from headway.errors import InvalidRequest
from headway.types.sampling_defaults import (
    SAFE_CHAT,
    DefaultSampling,
    SamplingDefaults,
    file_defaults,
)

GENERATION_CONFIG = "generation_config.json"
_FIELD = "generation_config"
_LARGEST = 2**20


def choose_default_sampling(
    model: SamplingDefaults, *, generation_config: str, override: SamplingDefaults
) -> DefaultSampling:
    """The defaults of a model whose own files say `model`.

    `generation_config` is "auto" for these, "vllm" for none, or the path of another file or of the
    folder that has it; `override` goes before either. A chat with a model that says nothing gets
    `SAFE_CHAT`, by "auto". Raises `InvalidRequest` for a file that cannot be used.
    """
    chat = base = SamplingDefaults()
    if generation_config == "auto":
        chat = base = model
        if not model.shapes_answers:
            chat = model.over(SAFE_CHAT)
    elif generation_config != "vllm":
        chat = base = _read(Path(generation_config).expanduser())
    return DefaultSampling(chat=override.over(chat), completions=override.over(base))


def _read(path: Path) -> SamplingDefaults:
    file = path / GENERATION_CONFIG if path.is_dir() else path
    try:
        values = decode(dict[str, Any], read_bytes(file, most=_LARGEST), str(file))
    except InvalidRequest as error:
        raise InvalidRequest(f"{_FIELD}: {error.message}", field=_FIELD) from error
    return file_defaults(values, field=_FIELD)
