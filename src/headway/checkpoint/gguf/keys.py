"""Typed access to a GGUF file's metadata, with one clear error for a key that is missing or odd."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headway.checkpoint.gguf.file import Value
from headway.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The metadata of one file. Keys that lack a namespace are looked up under `prefix`.

    Every method takes a default for a key that is not there, and raises `ModelError` without one
    or where the value has another type.
    """

    path: Path
    values: Mapping[str, Value]
    prefix: str = ""

    def under(self, prefix: str) -> Keys:
        return Keys(path=self.path, values=self.values, prefix=f"{prefix}.")

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._find(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._find(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(key, "a number")
        if not math.isfinite(value):
            raise self._wrong(key, "a finite number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._find(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._find(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def texts(self, key: str, default: list[str] | None = None) -> list[str]:
        value = self._find(key, default)
        if isinstance(value, np.ndarray) and value.size == 0:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, "a list of texts")
        return value

    def numbers(self, key: str, default: list[float] | None = None) -> list[float]:
        value = self._find(key, default)
        if isinstance(value, list) and value == default:
            return [float(number) for number in value]
        if not isinstance(value, np.ndarray):
            raise self._wrong(key, "a list of numbers")
        found: list[float] = value.tolist()
        return found

    def uniform(self, key: str, default: int | None = None) -> int:
        """A whole number, also where it is written once per layer."""
        value = self._find(key, default)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iu":
            if value.min() != value.max():
                raise ModelError(f"{self.path}: {key} that differs by layer is not supported")
            return int(value.flat[0])
        return self.integer(key, default)

    def _find(self, key: str, default: object) -> object:
        full = key if key.startswith(("general.", "tokenizer.", "split.")) else self.prefix + key
        value = self.values.get(full, default)
        if value is None:
            raise ModelError(f"{self.path}: the metadata key {full} is missing", field=full)
        return value

    def _wrong(self, key: str, wanted: str) -> ModelError:
        return ModelError(f"{self.path}: the metadata key {key} is not {wanted}", field=key)
