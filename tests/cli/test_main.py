"""The command's edges: help, version, wrong usage, and errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headway import __version__
from headway.checkpoint import load_prepared
from headway.cli.bench import KINDS
from headway.cli.doctor import engine_facts, machine_facts
from headway.cli.main import COMMANDS, main
from headway.native import available
from headway.types import Limits
from headway.types.engine import Hardware, SchedulerConfig
from headway.wire import EngineInfo
from tests.checkpoint.test_gguf import write


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert __version__ in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_benchmark_has_help(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", kind, "--help"])
    assert caught.value.code == 0
    assert f"headway bench {kind}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (("--help",), {"main"}),
        (("serve", "--help"), {"main", "flags", "serve", "compatibility", "json_flags"}),
        (
            ("--log-level", "info", "bench", "serve", "--help"),
            {"main", "bench", "bench_serve", "price_flags", "service_flags", "workload_flags"},
        ),
    ],
)
def test_only_the_modules_of_the_chosen_command_are_loaded(
    words: tuple[str, ...], loaded: set[str]
) -> None:
    code = (
        "import sys, atexit; from headway.cli.main import main\n"
        "def show():\n"
        "    names = [name.split('.')[2:3] for name in sys.modules if 'headway.cli.' in name]\n"
        "    print(*(name[0] for name in names), file=sys.stderr)\n"
        "    print('numpy' in sys.modules or 'torch' in sys.modules, file=sys.stderr)\n"
        "atexit.register(show)\n"
        f"main({words!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    modules, heavy = done.stderr.splitlines()
    assert set(modules.split()) == loaded
    assert heavy == "False"


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--no-such-flag"])
    assert caught.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["serv"], "serve"),
        (["serve", "--prot", "1"], "--port"),
        (["serve", "--prot=1"], "--port"),
        (["serve", "--policy", "contineous"], "continuous"),
        (["serve", "--router", "predictd"], "predicted"),
        (["generate", "x", "--max-tokn", "3"], "--max-tokens"),
        (["models", "lst"], "list"),
        (["bench", "serv"], "serve"),
        (["bench", "serve", "--modle", "x"], "--model"),
        # A flag is never abbreviated: a later version may have another one that begins alike.
        (["serve", "--max-num-s", "8"], "--max-num-seqs"),
    ],
)
def test_a_typo_is_one_line_with_what_was_meant(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.endswith(f"did you mean {meant}?\n")
    assert shown.count("\n") == 1


def test_an_unknown_model_is_a_typo_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "smolm2"]) == 2
    assert capsys.readouterr().err.endswith("did you mean smollm2?\n")


def test_help_names_the_defaults_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words, shown, hidden in (
        (["generate"], "(default: 128)", "(default: 16)"),
        (["chat"], "(default: 1024)", "(default: 16)"),
        (["serve"], "(default: 32)", "(default: None)"),
        (["simulate"], "block of the KV cache", "KV cache (default: 32)"),
    ):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert shown in text
        assert hidden not in text


def test_a_variable_with_a_typo_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWAY_MAX_NUM_SEQ", "8")
    assert main(["models", "list"]) == 1
    assert "did you mean HEADWAY_MAX_NUM_SEQS?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["models", "list"],
        ["models", "pull"],
        ["models", "prepare"],
        ["generate", "x"],
        ["doctor"],
        ["profile"],
    ],
)
@pytest.mark.parametrize("place", ["file", "below"])
def test_a_models_folder_that_cannot_be_is_one_line(
    words: list[str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("HEADWAY_HOME", str(file if place == "file" else file / "below"))
    assert main(words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("headway: HEADWAY_HOME")
    assert "not a folder" in last


def test_a_models_folder_that_cannot_be_is_one_line_of_a_servers_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("HEADWAY_HOME", str(file))
    assert main(["serve", "--port", "0"]) == 1
    (line,) = [each for each in caplog.messages if "not a folder" in each]
    assert line.startswith("event=failed field=HEADWAY_HOME")


def test_a_bad_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "hello", "--temperature", "-1"]) == 1
    shown = capsys.readouterr().err.strip()
    assert shown.startswith("headway:")
    assert "temperature" in shown
    assert "\n" not in shown


@pytest.mark.parametrize("replicas", ["0", "65"])
def test_as_many_replicas_as_can_be(replicas: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--replicas", replicas]) == 1
    shown = capsys.readouterr().err.strip()
    assert shown.endswith(f"replicas must be from 1 to 64, got {replicas}")
    assert "\n" not in shown


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys, headway.cli.main as m, headway.cli.serve, headway.server, headway.llm;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_doctor_tells_what_it_found() -> None:
    facts = dict(machine_facts())
    assert facts["headway"] == __version__
    assert int(facts["cores"]) >= 1
    assert facts["native kernels"].startswith("for " if available() else "the native kernels are")
    assert all(facts.values())


def test_doctor_tells_what_an_engine_chose() -> None:
    limits = Limits(
        max_num_seqs=9, max_num_batched_tokens=77, max_num_partial_prefills=1, max_model_len=555
    )
    info = EngineInfo(
        hardware=Hardware(
            device="cpu",
            dtype="int4",
            kv_cache_dtype="int8",
            backend="native (avx512)",
            threads=2,
        ),
        scheduler=SchedulerConfig(limits=limits, num_blocks=10, block_size=32),
        kv_bytes=2**30,
        weight_bytes=2**29,
    )
    assert dict(engine_facts(info)) == {
        "device": "cpu, 2 threads",
        "kernels": "native (avx512)",
        "weights": "int4, 0.50 GiB",
        "KV cache": "int8, 1.00 GiB: 10 blocks, 320 tokens",
        "batch": "policy continuous, at most 9 sequences and 77 new tokens a step",
        "longest sequence": "555 tokens",
    }


@pytest.mark.parametrize(
    ("words", "storage"),
    [
        (("--dtype", "int8"), "native-int8"),
        (("--dtype", "bfloat16", "--backend", "native"), "native-bfloat16"),
        (("--dtype", "float16", "--backend", "reference"), "float16"),
    ],
)
def test_a_model_is_prepared_as_an_engine_would_need_it(
    words: tuple[str, ...],
    storage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("headway.native.available", lambda: True)
    monkeypatch.setattr("headway.machine.has_nvidia_gpu", lambda: False)
    write(tmp_path / "m.gguf")
    assert main(["models", "prepare", str(tmp_path / "m.gguf"), *words]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert load_prepared(folder).storage == storage
    assert main(["models", "list"]) == 0
    assert folder.name in capsys.readouterr().out
    assert main(["models", "rm", folder.name]) == 0
    assert not folder.exists()


def test_a_form_that_the_backend_lacks_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "prepare", "x", "--dtype", "int8", "--backend", "reference"]) == 1
    assert capsys.readouterr().err.strip() == (
        "headway: dtype int8 needs the native backend, on a CPU"
    )


def test_models_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path))
    assert main(["models", "list"]) == 0
    assert "smollm2-135m-instruct" in capsys.readouterr().out
    assert main(["models", "rm", "smollm2-135m-instruct"]) == 2
    assert "nothing of this name" in capsys.readouterr().err
    assert main(["models", "pull", "no/such:model"]) == 2
    assert capsys.readouterr().err.startswith("headway: ")
