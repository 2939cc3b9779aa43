"""Profiles from published numbers: what fits, what a step costs, and files of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.errors import InvalidRequest
from headway.perf.sim.roofline import (
    MEMORY_SHARE,
    device_names,
    known_device,
    known_model,
    model_names,
    roofline_profile,
)
from headway.steptime.profiles import Profile
from headway.steptime.shape import StepShape

PARAMETERS = {
    "smollm2-135m": 0.1345e9,
    "qwen3-0.6b": 0.596e9,
    "llama-3.2-1b": 1.236e9,
    "gemma-3-4b": 3.88e9,
    "mistral-7b": 7.25e9,
    "llama-3.1-8b": 8.03e9,
    "qwen3-8b": 8.19e9,
    "opt-13b": 12.85e9,
    "llama-2-13b": 13.02e9,
    "qwen3-30b-a3b": 30.5e9,
    "mixtral-8x7b": 46.7e9,
    "llama-3.1-70b": 70.6e9,
}
"""As their makers count them, the text part alone."""


@pytest.mark.parametrize("name", model_names())
def test_dimensions_give_the_published_number_of_parameters(name: str) -> None:
    assert known_model(name).architecture.parameters == pytest.approx(PARAMETERS[name], rel=0.01)


@pytest.mark.parametrize("name", device_names())
def test_every_device_runs_a_small_model(name: str) -> None:
    profile = roofline_profile(known_device(name), known_model("smollm2-135m"))
    assert profile.scheduler.limits.max_model_len == 8192
    assert Profile.from_json(profile.to_json()) == profile


def test_a_decode_of_one_sequence_reads_the_weights_once() -> None:
    device, model = known_device("h200"), known_model("llama-3.1-8b")
    profile = roofline_profile(device, model)
    shape = StepShape(tokens=1, sequences=1, rows=1, decodes=1, decode_context=1)
    embedding = 2 * 128256 * 4096
    weights = 2 * model.architecture.parameters - embedding
    reading = weights / 4.8e12 / device.attainable["bandwidth"]
    assert profile.step_times().predict(shape) == pytest.approx(
        reading + device.step_seconds + device.sequence_seconds, rel=0.01
    )


def test_the_cache_has_what_the_weights_leave() -> None:
    device, model = known_device("a100-40gb"), known_model("opt-13b")
    profile = roofline_profile(device, model)
    room = MEMORY_SHARE * 40e9 - 2 * model.architecture.parameters
    tokens = profile.scheduler.num_blocks * profile.scheduler.block_size
    # 40 layers of keys and values, 5120 wide, two bytes each.
    assert tokens == pytest.approx(room / (2 * 40 * 5120 * 2), abs=profile.scheduler.block_size)
    less = roofline_profile(device, model, kv_cache_memory=10**9)
    assert less.scheduler.num_blocks < profile.scheduler.num_blocks


def test_fewer_bits_make_room_and_speed() -> None:
    device, model = known_device("h100"), known_model("llama-3.1-8b")
    wide, narrow = (roofline_profile(device, model, dtype=dtype) for dtype in ("bfloat16", "int4"))
    assert narrow.scheduler.num_blocks > wide.scheduler.num_blocks
    shape = StepShape(tokens=1, sequences=1, rows=1, decodes=1, decode_context=1)
    assert narrow.step_times().predict(shape) < wide.step_times().predict(shape) / 1.5
    # Four bits are unpacked to compute, so that they compute no faster.
    assert narrow.machine.flops_per_second == wide.machine.flops_per_second


def test_what_does_not_fit_is_said_with_the_fix() -> None:
    with pytest.raises(InvalidRequest, match="smaller --dtype") as error:
        roofline_profile(known_device("l4"), known_model("llama-3.1-70b"))
    assert error.value.field == "--device"


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(InvalidRequest, match="qwen3-8b"):
        known_model("llama-9")
    with pytest.raises(InvalidRequest, match="h200"):
        known_device("abacus")
    with pytest.raises(InvalidRequest, match="bfloat16"):
        roofline_profile(known_device("l4"), known_model("qwen3-8b"), dtype="float7")


def test_a_device_of_ones_own_from_a_file(tmp_path: Path) -> None:
    values = {
        "title": "half an H200",
        "memory": 70e9,
        "bandwidth": 2.4e12,
        "rates": {"bfloat16": 500e12},
        "attainable": {"arithmetic": 0.5, "bandwidth": 0.5, "attention": 0.5},
        "step_seconds": 0.001,
        "sequence_seconds": 0.0,
    }
    path = tmp_path / "half.json"
    path.write_text(json.dumps(values))
    assert known_device(str(path)).name == "half"
    for broken, word in (
        ({**values, "colour": "red"}, "colour"),
        ({key: value for key, value in values.items() if key != "memory"}, "memory"),
        ({**values, "attainable": {"arithmetic": 2.0}}, "arithmetic"),
        ({**values, "bandwidth": 0.0}, "bandwidth"),
        ([], "object"),
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(InvalidRequest, match=word):
            known_device(str(path))
    with pytest.raises(InvalidRequest, match="cannot read"):
        known_device(str(tmp_path / "none.json"))


def test_a_model_of_ones_own_from_a_file(tmp_path: Path) -> None:
    known = known_model("qwen3-0.6b").architecture
    dimensions = {name: getattr(known, name) for name in known.__dataclass_fields__}
    path = tmp_path / "mine-0.6b.json"
    path.write_text(json.dumps({"title": "mine", "context": 99, "architecture": dimensions}))
    model = known_model(str(path))
    assert (model.name, model.context, model.architecture) == ("mine-0.6b", 99, known)
    path.write_text(json.dumps({"title": "mine", "context": 99, "architecture": {"depth": 3}}))
    with pytest.raises(InvalidRequest, match="depth"):
        known_model(str(path))
