"""Traces: each format, scaling, repetition, keeping, and bad lines that are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.perf.workload import traces as module
from headway.perf.workload.synthetic import gamma, synthesize
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import (
    LONGEST,
    Segment,
    Workload,
    WorkloadRequest,
    distinct_tokens,
    write_workload,
)

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.5000000,374,44
2023-11-16 18:15:48.0000000,396,109
2023-11-16 18:15:47.0000000,0,0
"""


def mooncake(at: int, prompt: int, output: int, ids: list[int]) -> str:
    values = {"timestamp": at, "input_length": prompt, "output_length": output, "hash_ids": ids}
    return json.dumps(values) + "\n"


MOONCAKE = mooncake(1000, 1100, 50, [0, 1, 2]) + mooncake(3000, 1024, 30, [0, 1])


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    return _file(tmp_path, "azure.csv", AZURE)


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    return _file(tmp_path, "mooncake.jsonl", MOONCAKE)


def test_azure_rows_are_requests_in_the_order_of_their_times(azure: Path) -> None:
    workload = read_trace(azure)
    assert workload.name == "azure"
    assert [
        (request.at, request.prompt_tokens, request.output, request.cap)
        for request in workload.requests
    ] == [
        (0.0, 374, 44, 44),
        (0.5, 1, 1, 1),
        (1.5, 396, 109, 109),
    ]
    assert len({request.segments[0].seed for request in workload.requests}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + AZURE,
        AZURE.replace("\n", "\r\n"),
        AZURE + "\n\n",
        AZURE.replace("0000,", "+00:00,"),
    ],
)
def test_azure_files_as_other_programs_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "azure.csv"
    path.write_bytes(text.encode())
    assert [request.at for request in read_trace(path).requests] == [0.0, 0.5, 1.5]


def test_mooncake_blocks_are_segments_that_requests_share(blocks: Path) -> None:
    first, second = read_trace(blocks).requests
    assert (first.at, second.at) == (0.0, 2.0)
    assert [segment.length for segment in first.segments] == [512, 512, 76]
    assert (first.output, second.output) == (50, 30)
    assert distinct_tokens(first)[:1024] == distinct_tokens(second)


def test_scaled_lengths_keep_what_is_shared(blocks: Path) -> None:
    first, second = read_trace(blocks, length_scale=1 / 64).requests
    assert [segment.length for segment in first.segments] == [8, 8, 1]
    assert distinct_tokens(first)[:16] == distinct_tokens(second)
    assert (first.output, second.output) == (1, 1)


def test_a_scaled_rate_scales_the_times(azure: Path) -> None:
    workload = read_trace(azure, rate_scale=2, length_scale=0.5)
    assert [request.at for request in workload.requests] == [0.0, 0.25, 0.75]
    assert workload.name == "azure, lengths x 0.5, rate x 2"


def test_a_cap_is_every_requests_and_cuts_longer_outputs(azure: Path) -> None:
    requests = read_trace(azure, cap=50).requests
    assert [(request.output, request.cap) for request in requests] == [(44, 50), (1, 50), (50, 50)]


def test_fewer_requests_are_the_beginning(azure: Path) -> None:
    assert [request.prompt_tokens for request in read_trace(azure, num_requests=2).requests] == [
        374,
        396,
    ]


def test_more_requests_repeat_the_trace_later_and_with_other_prompts(blocks: Path) -> None:
    requests = read_trace(blocks, num_requests=5).requests
    # Two requests 2 s apart: each time round takes 4 s.
    assert [request.at for request in requests] == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert requests[2].prompt_tokens == requests[0].prompt_tokens
    assert not set(distinct_tokens(requests[0])) & set(distinct_tokens(requests[2]))
    assert distinct_tokens(requests[2])[:1024] == distinct_tokens(requests[3])


def test_another_seed_makes_other_prompts_with_the_same_in_common(blocks: Path) -> None:
    first, second = read_trace(blocks, seed=3).requests
    assert not set(distinct_tokens(first)) & set(distinct_tokens(read_trace(blocks).requests[0]))
    assert distinct_tokens(first)[:1024] == distinct_tokens(second)


JOBS = st.builds(
    lambda segments, output, more: WorkloadRequest(
        segments=tuple(segments), output=output, cap=output + more
    ),
    st.lists(st.builds(Segment, st.integers(0, 2**42), st.integers(1, LONGEST)), min_size=1),
    st.integers(1, 1000),
    st.integers(0, 1000),
)


@given(st.text(max_size=10), st.lists(JOBS, min_size=1, max_size=5))
def test_what_is_kept_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, name: str, requests: list[WorkloadRequest]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "workload.jsonl"
    workload = Workload(name=name, requests=tuple(requests))
    write_workload(path, workload)
    assert read_trace(path) == workload


def test_a_synthetic_workload_is_replayed_as_it_was(tmp_path: Path) -> None:
    workload = synthesize(
        num_requests=20,
        prompt=lambda random: random.randint(1, 9),
        output=lambda random: random.randint(1, 9),
        arrivals=gamma(3),
        prefix_tokens=4,
        prefixes=2,
        cap=9,
        seed=8,
    )
    write_workload(tmp_path / "kept", workload)
    assert read_trace(tmp_path / "kept") == workload


HEADER = '{"headway_workload": 1, "name": "x"}\n'
AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
MISSING = '{"timestamp": 0, "input_length": 5, "output_length": 5}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n", "line 1: neither JSON nor"),
        ('{"a": 1}\n', "line 1: neither a CSV file"),
        (AZURE_HEADER + "yesterday,1,1\n", "line 2: "),
        (AZURE_HEADER + "2023-11-16 18:15:46,1\n", "line 2: a row has 3 columns, not 2"),
        (AZURE_HEADER + "2023-11-16 18:15:46,1,-1\n", "line 2: GeneratedTokens is a whole"),
        (AZURE + "2023-11-16 18:15:46,9999999,1\n", "line 5: ContextTokens is a whole"),
        (MOONCAKE + "{\n", "line 3: neither JSON"),
        (MOONCAKE + MISSING, "line 3: hash_ids is a list"),
        (MOONCAKE + mooncake(0, 1100, 5, [0, 1]), "line 3: hash_ids .*: 3 for 1100 tokens"),
        (MOONCAKE + mooncake(0, 5, 5, [-1]), "line 3: a hash id"),
        (MOONCAKE + mooncake(-1, 5, 5, [1]), "line 3: timestamp"),
        (MOONCAKE + mooncake(0, 5, 5, [1]).replace("5,", "NaN,"), "line 3: input_length"),
        (HEADER.replace("1,", "2,"), "line 1 has version 2"),
        (HEADER + "[]\n", "line 2: .*`object`"),
        (HEADER + '{"at":-1,"output":1,"cap":1,"segments":[[0,1]]}\n', "line 2: at is"),
        (HEADER + '{"at":0,"output":2,"cap":1,"segments":[[0,1]]}\n', "line 2: output 2 is more"),
        (HEADER + '{"at":0,"output":1,"cap":1,"segments":[]}\n', "line 2: segments"),
        (HEADER + '{"at":0,"output":1,"cap":1,"segments":[[0]]}\n', "line 2: segments"),
        (HEADER + '{"at":0,"output":1,"cap":1,"segments":[[0,0]]}\n', "line 2: a length"),
        (HEADER + "{\n", "line 2: "),
        (HEADER, "holds no requests"),
        (AZURE_HEADER, "holds no requests"),
        ("", "line 0: neither JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        read_trace(_file(tmp_path, "trace", text))


def test_files_that_cannot_be_used_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot read"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(InvalidRequest, match="cannot write"):
        write_workload(tmp_path / "none" / "x", Workload(name="", requests=()))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        read_trace(tmp_path / "binary")


def test_lines_and_files_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = _file(tmp_path, "endless", "x" * (2 << 20))
    with pytest.raises(InvalidRequest, match="longer than 1048576 characters"):
        read_trace(endless)
    monkeypatch.setattr(module, "MOST_REQUESTS", 2)
    with pytest.raises(InvalidRequest, match="more than 2 requests"):
        read_trace(_file(tmp_path, "long.csv", AZURE))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_requests", 0),
        ("length_scale", 0.0),
        ("rate_scale", float("inf")),
        ("cap", 0),
    ],
)
def test_arguments_out_of_bounds_are_named(azure: Path, field: str, value: float) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_trace(azure, **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path
