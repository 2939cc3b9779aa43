"""What was written comes back; what is no recording is an error that names the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.recording.format import (
    Line,
    Recording,
    encode_line,
    parse,
    read_recordings,
)
from tests.recording.samples import (
    ENGINE,
    RECORDING,
    REQUEST,
    STEPS,
    lines_of,
    recordings,
    write_recordings,
)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "steps.jsonl"


@given(st.lists(recordings(), min_size=1, max_size=3))
def test_what_was_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, given: list[Recording]
) -> None:
    path = tmp_path_factory.mktemp("recordings") / "steps.jsonl"
    write_recordings(path, given)
    assert read_recordings(path) == given


@given(recordings())
def test_an_engines_encoder_writes_the_same_lines(recording: Recording) -> None:
    for line in lines_of(recording):
        assert parse(encode_line(line).decode(), "here") == line


def test_a_requests_line_comes_before_that_of_its_last_step() -> None:
    assert list(lines_of(RECORDING)) == [ENGINE, STEPS[0], REQUEST, STEPS[1]]


def test_a_last_line_that_was_cut_off_is_left_out(path: Path) -> None:
    write_recordings(path, [RECORDING])
    whole = path.read_text()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        path.write_text(whole[: -cut - 1])
        (found,) = read_recordings(path)
        assert found.steps == STEPS[:1]
        assert found.requests == RECORDING.requests


def test_a_line_that_was_cut_off_before_the_next_engine_is_left_out(path: Path) -> None:
    write_recordings(path, [RECORDING])
    text = path.read_text()
    path.write_text(text[:-20] + "\n" + text)
    first, second = read_recordings(path)
    assert first.steps == STEPS[:1]
    assert second == RECORDING


def test_a_line_that_is_damaged_in_the_middle_is_named(path: Path) -> None:
    write_recordings(path, [RECORDING])
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:-3]
    path.write_text("\n".join(lines))
    with pytest.raises(InvalidRequest, match=r"steps\.jsonl, line 2: "):
        read_recordings(path)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_an_engine_is_no_recording(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(InvalidRequest, match="holds no recording"):
        read_recordings(path)


def test_a_recording_starts_with_an_engine(path: Path) -> None:
    path.write_bytes(encode_line(STEPS[0]))
    with pytest.raises(InvalidRequest, match="line 1: a recording starts with an engine line"):
        read_recordings(path)


def test_a_file_that_is_absent_is_said(path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        read_recordings(path)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("step", {"at": "soon"}, "at: expected `float`"),
        ("step", {"slices": [[1, 0, 3]]}, r"slices\[0\]: expected `array` of length 4"),
        ("step", {"slices": [[1, 0, 3, True]]}, r"slices\[0\]\[3\]: expected `int`"),
        ("step", {"slices": [[1, 0, 3, 2]]}, "given: not one for each"),
        ("step", {"given": [2]}, "given: not one for each"),
        ("step", {"slices": None}, "slices: expected `array`"),
        ("step", {"colour": 1}, "colour: unknown key"),
        ("step", {"ended": 1}, "ended: expected `array`"),
        ("request", {"seq": True}, "seq: expected `int`"),
        ("request", {"finish": "bored"}, "finish: invalid enum value 'bored'"),
        ("request", {"hashes": [1]}, r"hashes\[0\]: expected `str`"),
        ("engine", {"machine": {"device": "x"}}, "here: machine.flops_per_second: missing"),
        ("engine", {"scheduler": 3}, "here: scheduler: expected `object`"),
        ("engine", {"version": 3}, "here has version 3 .* record again"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(kind: str, change: dict[str, Any], message: str) -> None:
    lines: dict[str, Line] = {"step": STEPS[0], "request": REQUEST, "engine": ENGINE}
    data = json.loads(encode_line(lines[kind]))
    data[kind].update(change)
    with pytest.raises((ValueError, InvalidRequest), match=message):
        parse(json.dumps(data), "here")


def test_a_field_that_is_missing_is_named() -> None:
    data = json.loads(encode_line(REQUEST))
    del data["request"]["arrival"]
    with pytest.raises(ValueError, match="arrival: missing"):
        parse(json.dumps(data), "here")


@pytest.mark.parametrize("text", ["[]", "{}", '{"step": 1, "request": 2}', '{"stop": {}}', "7"])
def test_a_line_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"single key|unknown kind|`object`"):
        parse(text, "here")
