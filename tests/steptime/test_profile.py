"""Profiles as files: back as they went, strict about everything else, found again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.steptime.profiles import (
    Profile,
    find_profile,
    keep_profile,
    load_profile,
    profile_names,
    profiles_folder,
    read_profile,
)
from tests.steptime.world import MACHINE, SIZES, TRUTH, WINDOWED, decodes, model, profile


@pytest.mark.parametrize(
    "one", [profile(), replace(profile(), fit=None, sizes=WINDOWED)], ids=["measured", "made up"]
)
def test_a_profile_comes_back_as_it_went(one: Profile) -> None:
    assert Profile.from_json(one.to_json()) == one


def test_a_profile_foretells_as_its_model_does() -> None:
    shape = decodes(5, 60)
    assert profile().step_times().predict(shape) == model(SIZES, TRUTH).predict(shape)
    assert profile().step_times().machine == MACHINE


def _changed(path: str, value: Any) -> str:
    """The profile's JSON with the entry at a dotted path replaced, or removed by `...`."""
    values = json.loads(profile().to_json())
    *way, last = path.split(".")
    place = values
    for name in way:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("headway_profile", 1, "version 1 .*`headway profile`"),
        ("headway_profile", ..., "not a profile"),
        ("hardware.threads", "two", "hardware.threads: expected `int`"),
        ("hardware.threads", True, "hardware.threads: expected `int`"),
        ("model", 7, "model: expected `str`"),
        ("sizes.flops_per_token", "much", "sizes.flops_per_token: expected `float`"),
        ("sizes.flops_per_token", float("nan"), "malformed"),
        ("coefficients.mixed", ..., "coefficients.mixed: missing"),
        ("coefficients.colour", 1.0, "coefficients.colour: unknown key"),
        ("machine", [1], "machine: expected `object`"),
        ("residuals.decode", 1.0, "residuals.decode: expected `array`"),
        ("residuals.decode", ["a"], r"residuals.decode\[0\]: expected `float`"),
        ("scheduler.limits", None, "scheduler.limits: expected `object`"),
    ],
)
def test_anything_else_is_an_error_that_names_the_key(path: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Profile.from_json(_changed(path, value))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", b"\xff\xfe", "[" * 100_000])
def test_what_is_no_profile_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest):
        Profile.from_json(text)


def test_the_store_keeps_finds_and_lists(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    assert profile_names(folder=folder) == []
    assert find_profile(folder=folder) is None
    kept = keep_profile(profile(), folder=folder)
    assert kept.stem == "round-1b-int8-bfloat16-native-cpu-2t"
    assert read_profile(kept) == profile()
    assert profile_names(folder=folder) == [kept.stem]
    assert load_profile(kept.stem, folder=folder) == load_profile(str(kept), folder=folder)
    assert find_profile(model="round 1b", threads=2, folder=folder) == profile()
    assert find_profile(model="Round 1B", threads=4, folder=folder) is None
    assert find_profile(model="round", folder=folder) is None
    assert find_profile(backend="reference (oneDNN)", folder=folder) is None


def test_a_new_profile_replaces_the_old_and_the_newest_is_found(tmp_path: Path) -> None:
    first = keep_profile(profile(), folder=tmp_path)
    second = replace(profile(), model="Round 1b")
    assert keep_profile(second, folder=tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    other = keep_profile(
        replace(profile(), hardware=replace(profile().hardware, dtype="int4")), folder=tmp_path
    )
    os.utime(other, (1, 1))
    assert find_profile(model="Round 1B", folder=tmp_path) == second
    os.utime(first, (0, 0))
    found = find_profile(model="Round 1B", folder=tmp_path)
    assert found is not None
    assert found.hardware.dtype == "int4"


def test_a_damaged_file_is_passed_over_in_a_search_and_an_error_by_name(tmp_path: Path) -> None:
    keep_profile(profile(), folder=tmp_path)
    (tmp_path / "broken.json").write_text("{}")
    assert find_profile(model="Round 1B", folder=tmp_path) == profile()
    with pytest.raises(InvalidRequest, match="not a profile"):
        load_profile("broken", folder=tmp_path)
    with pytest.raises(InvalidRequest, match="round-1b"):
        load_profile("absent", folder=tmp_path)
    (tmp_path / "large.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(InvalidRequest, match="too large"):
        load_profile("large", folder=tmp_path)
    with pytest.raises(InvalidRequest, match="cannot read"):
        read_profile(tmp_path / "nowhere.json")


def test_profiles_lie_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path))
    assert profiles_folder() == tmp_path / "profiles"
    (tmp_path / "profiles").write_text("in the way")
    with pytest.raises(InvalidRequest, match="cannot write"):
        keep_profile(profile())
