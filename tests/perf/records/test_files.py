"""Records kept as JSON Lines: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.perf.records.record import RequestRecord, read_records, write_records
from tests.perf.records.records import answered, broken, refused

TIMES = st.floats(0, 1e6)
RECORDS = st.builds(
    RequestRecord,
    id=st.text(max_size=5),
    due=TIMES,
    sent=TIMES,
    prompt_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    ttft=st.none() | TIMES,
    latency=st.none() | TIMES,
    largest_gap=TIMES,
    itls=st.lists(TIMES, max_size=3).map(tuple),
    cached_tokens=st.integers(0, 10**6),
    draft_tokens=st.integers(0, 10**6),
    accepted_tokens=st.integers(0, 10**6),
    outcome=st.sampled_from(["ok", "refused", "error"]),
    error=st.text(max_size=5),
)


@given(st.lists(RECORDS, max_size=5))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[RequestRecord]
) -> None:
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    write_records(path, records)
    assert read_records(path) == tuple(records)


def test_a_record_is_a_line_without_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [refused(), answered(), broken()])
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {
        "id": "r",
        "due": 0.0,
        "sent": 0.0,
        "prompt_tokens": 10,
        "outcome": "refused",
        "error": "429",
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "truncated"),
        ("[1]", "expected `object`"),
        ('{"id": "a", "due": 0, "sent": 0}', "prompt_tokens: missing"),
        ('{"id": "a", "due": 0, "sent": 0, "prompt_tokens": 1, "x": 1}', "x: unknown key"),
        (
            '{"id": "a", "due": 0, "sent": 0, "prompt_tokens": true}',
            "prompt_tokens: expected",
        ),
        ('{"id": "a", "due": NaN, "sent": 0, "prompt_tokens": 1}', "malformed"),
        (
            '{"id": "a", "due": 0, "sent": 0, "prompt_tokens": 1, "itls": [""]}',
            r"itls\[0\]: ",
        ),
        (
            '{"id": "a", "due": 0, "sent": 0, "prompt_tokens": 1, "outcome": "fine"}',
            "outcome: ",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [answered()])
    path.write_text(path.read_text() + "\n" + line + "\n")
    with pytest.raises(InvalidRequest, match=f"line 3: .*{reason}"):
        read_records(path)


def test_files_that_cannot_be_used_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot read"):
        read_records(tmp_path / "none.jsonl")
    with pytest.raises(InvalidRequest, match="cannot write"):
        write_records(tmp_path / "none" / "records.jsonl", [])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="line 1: JSON is malformed"):
        read_records(tmp_path / "binary")
