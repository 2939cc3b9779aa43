"""Settings: every number has bounds, which hold whatever a value's source; NaN is outside all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from headway import machine
from headway.checkpoint.cache import content_hash, locked
from headway.config import EngineConfig, ServerConfig
from headway.environment import cache_home, check_environment, from_environment
from headway.errors import InvalidRequest, did_you_mean
from headway.llm.machine_bounds import check_machine
from headway.scheduling.policy import PARAMETERS, POLICIES
from headway.settings import check_settings, setting, without_none
from headway.types import SERVICE_CLASSES, SamplingParams

Case = tuple[Any, str, Field[Any], type]


def numbers() -> Iterator[Case]:
    """Every setting that is a number: how to make one, its keyword, its field and its type."""
    for settings in (EngineConfig, ServerConfig):
        kinds = get_type_hints(settings)
        for each in fields(settings):
            kind = without_none(kinds[each.name])
            if kind in (int, float):
                yield settings, each.name, each, kind
    for parameter in PARAMETERS.values():
        if without_none(parameter.kind) in (int, float):
            kind = without_none(parameter.kind)
            yield POLICIES[parameter.policy], parameter.field.name, parameter.field, kind


NUMBERS = list(numbers())


@pytest.mark.parametrize(
    ("make", "name", "field", "kind"), NUMBERS, ids=[name for _, name, _, _ in NUMBERS]
)
def test_every_number_has_bounds_that_hold(
    make: Any, name: str, field: Field[Any], kind: type
) -> None:
    least, most = field.metadata["least"], field.metadata["most"]
    assert least is not None, "give the setting `least` and `most`"
    wrong = [least - 1, most + 1, 10**400 if kind is int else 1e308, "8", True]
    for value in [*wrong, float("nan"), float("inf"), float("-inf")]:
        with pytest.raises(InvalidRequest) as caught:
            make(**{name: value})
        assert str(caught.value.field).endswith(name)
        assert len(caught.value.message) < 200
    make(**{name: most})


@pytest.mark.parametrize(
    ("make", "given", "field"),
    [
        (EngineConfig, {"policy": "contineous"}, "policy"),
        (EngineConfig, {"pin_threads": "yes"}, "pin_threads"),
        (EngineConfig, {"model": 3}, "model"),
        (EngineConfig, {"block_size": None}, "block_size"),
        (EngineConfig, {"gpu_memory_utilization": 0.0}, "gpu_memory_utilization"),
        (EngineConfig, {"slo": "soon"}, "slo"),
        (EngineConfig, {"slo": ""}, "slo"),
        (EngineConfig, {"slo": 1.0}, "slo"),
        (EngineConfig, {"slo_interactive": "ttft=0s"}, "slo_interactive"),
        (EngineConfig, {"slo_batch": "e2el=31000000s"}, "slo_batch"),
        (ServerConfig, {"api_key": "secret"}, "api_key"),
        (ServerConfig, {"api_key": (1,)}, "api_key"),
    ],
)
def test_values_of_the_wrong_type_are_refused(make: Any, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make(**given)
    assert caught.value.field == field


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_sampling_takes_finite_numbers_alone(value: float) -> None:
    kinds = get_type_hints(SamplingParams)
    names = [name for name, kind in kinds.items() if kind is float]
    assert len(names) >= 6
    for name in names:
        given: dict[str, Any] = {name: value}
        with pytest.raises(InvalidRequest) as caught:
            SamplingParams(**given)
        assert caught.value.field == name


def test_a_whole_number_may_stand_for_a_fraction_and_none_for_no_value() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Some:
        seconds: float | None = setting(None, "some", least=0, most=9)

    check_settings(Some(seconds=3))
    check_settings(Some())
    with pytest.raises(InvalidRequest, match="some_seconds must be from 0 to 9"):
        check_settings(Some(seconds=10), prefix="some_")


def test_what_the_machine_does_not_have_is_said_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 100)
    monkeypatch.setattr(machine, "total_memory", lambda: 2**30)
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: False)
    check_machine(EngineConfig(threads=400, kv_cache_memory=2**30))
    with pytest.raises(InvalidRequest, match="400 on this machine, which has 100 cores"):
        check_machine(EngineConfig(threads=401))
    with pytest.raises(InvalidRequest, match=r"1\.00 GiB of memory that this machine has"):
        check_machine(EngineConfig(kv_cache_memory=2**30 + 1))
    # A GPU's memory is not the machine's.
    check_machine(EngineConfig(kv_cache_memory=2**31, device="cuda"))


def test_an_unknown_variable_is_refused_with_the_one_that_was_meant() -> None:
    flags = ["--max-num-seqs", "port"]
    check_environment(flags, {"HEADWAY_MAX_NUM_SEQS": "3", "HEADWAY_HOME": "/x", "PATH": "/bin"})
    with pytest.raises(InvalidRequest, match=r"SEQ is .* did you mean HEADWAY_MAX_NUM_SEQS\?"):
        check_environment(flags, {"HEADWAY_MAX_NUM_SEQ": "3"})
    with pytest.raises(InvalidRequest, match="HEADWAY_ELSE is no setting"):
        check_environment(flags, {"HEADWAY_ELSE": "3"})


def test_what_kubernetes_sets_for_services_is_no_setting() -> None:
    links = {
        "HEADWAY_SERVICE_HOST": "10.0.0.1",
        "HEADWAY_SERVICE_PORT": "8000",
        "HEADWAY_SERVICE_PORT_HTTP": "8000",
        "HEADWAY_PORT": "tcp://10.0.0.1:8000",
        "HEADWAY_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "HEADWAY_PORT_8000_TCP_PROTO": "tcp",
        "HEADWAY_PORT_8000_TCP_PORT": "8000",
        "HEADWAY_PORT_8000_TCP_ADDR": "10.0.0.1",
        "HEADWAY_METRICS_SERVICE_HOST": "10.0.0.2",
        "HEADWAY_METRICS_PORT": "tcp://10.0.0.2:80",
        "HEADWAY_METRICS_PORT_80_TCP_ADDR": "10.0.0.2",
    }
    check_environment(["port"], links)
    assert from_environment("--port", links) is None
    assert from_environment("--port", {"HEADWAY_PORT": "8001"}) == "8001"


def test_a_file_in_the_place_of_the_models_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for home in (file, file / "below", file / "far" / "below"):
        with pytest.raises(InvalidRequest, match=r"HEADWAY_HOME.*file is not a folder"):
            cache_home({"HEADWAY_HOME": str(home)})
    assert cache_home({"HEADWAY_HOME": str(tmp_path / "new" / "er")}) == tmp_path / "new" / "er"


def test_a_models_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("text")
    with (
        pytest.raises(InvalidRequest, match="HEADWAY_HOME names another folder"),
        locked(blocked / "downloads" / "model"),
    ):
        pytest.fail("nothing is locked")
    # What is only remembered there is found out again.
    assert content_hash([blocked], blocked / "home") == content_hash([blocked], tmp_path)


def test_objectives_of_a_class_that_names_none_are_those_of_all_but_for_batch() -> None:
    def objectives(**given: str) -> list[str]:
        config = EngineConfig(**given)  # type: ignore[arg-type]
        return [",".join(map(str, config.objectives_of(each))) for each in SERVICE_CLASSES]

    assert SERVICE_CLASSES == ("interactive", "standard", "batch")
    assert objectives() == ["", "", ""]
    assert objectives(slo="ttft=1s") == ["ttft=1s", "ttft=1s", ""]
    assert objectives(slo_interactive="ttft=1s") == ["ttft=1s", "", ""]
    assert objectives(slo="ttft=1s", slo_interactive="tpot=50ms", slo_batch="e2el=9s") == [
        "tpot=50ms",
        "ttft=1s",
        "e2el=9s",
    ]


def test_suggestions() -> None:
    assert did_you_mean("--prot", ["--port", "--policy"]) == "; did you mean --port?"
    assert did_you_mean("x" * 10**6, ["port"]) == ""
