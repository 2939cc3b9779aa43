"""What shells complete, asked of the shells themselves: zsh and fish where they are installed."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.checkpoint.known import known_models
from headway.cli.bench import KINDS
from headway.cli.completion_scripts import SCRIPTS
from headway.cli.completion_tree import CommandTree, command_tree
from headway.cli.main import COMMANDS, LazyParser, build_parser, main
from headway.scheduling.policy import POLICIES

PROMPT = "ready> "
TOLD = "headway() { printf '<%s>' \"$@\"; echo '|'; }\n"
"""Stands for the command: says which words it got."""
SECONDS = 60


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture(scope="module")
def tree() -> CommandTree:
    return command_tree(build_parser(), "headway")


@pytest.fixture(scope="module")
def scripts(tree: CommandTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script of each shell."""
    folder = tmp_path_factory.mktemp("completion")
    for shell, write in SCRIPTS.items():
        (folder / f"headway.{shell}").write_text(write(tree))
    return folder


# The tree.


def parsers(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, set[str]]]:
    """Every command with the flags that its help shows."""
    assert isinstance(parser, LazyParser)
    parser.load()
    yield name, set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", parser.format_usage()))
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from parsers(below, f"{name} {word}")


def test_the_tree_has_every_command_and_every_flag_of_its_usage(tree: CommandTree) -> None:
    found = {
        each.name: {name for flag in each.flags for name in flag.names} for each in tree.walk()
    }
    shown = dict(parsers(build_parser(), "headway"))
    assert found.keys() == shown.keys()
    assert {f"headway {name}" for name in COMMANDS} < found.keys()
    assert {f"headway bench {kind}" for kind in KINDS} < found.keys()
    for name, flags in shown.items():
        assert flags <= found[name], name
    assert "--max-num-seqs" in found["headway serve"]


def test_what_is_not_shown_in_help_is_not_completed(tree: CommandTree) -> None:
    (serve,) = (each for each in tree.walk() if each.name == "headway serve")
    assert "--model" not in {name for flag in serve.flags for name in flag.names}


def test_texts_are_short_and_each_command_has_one(tree: CommandTree) -> None:
    for command in tree.commands:
        assert command.help
        assert max(len(flag.help) for flag in command.flags) <= 70
        assert not any("\n" in flag.help or "%%" in flag.help for flag in command.flags)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_command_prints_the_script(
    shell: str, scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == (scripts / f"headway.{shell}").read_text()


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["completion", "bish"])
    assert caught.value.code == 2
    assert "bash, zsh, fish" in capsys.readouterr().err


# Bash, by what its function replies.


def replies(scripts: Path, *words: str) -> list[str]:
    """What bash is offered for the last of these words, as bash splits a line."""
    code = (
        '. "$0"; COMP_WORDS=(headway "$@"); COMP_CWORD=$#; _headway; '
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    command = ["bash", "--norc", "-c", code, str(scripts / "headway.bash"), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_is_offered_all_commands_and_those_that_begin_so(scripts: Path) -> None:
    assert replies(scripts, "") == list(COMMANDS)
    assert replies(scripts, "s") == [name for name in COMMANDS if name.startswith("s")]
    assert set(replies(scripts, "bench", "")) == set(KINDS)


def test_bash_is_offered_the_flags_of_the_command_that_was_typed(scripts: Path) -> None:
    assert replies(scripts, "simulate", "--compare-p") == ["--compare-policies"]
    assert replies(scripts, "serve", "--compare") == []
    assert "--base-url" in replies(scripts, "--log-level", "info", "bench", "serve", "--b")


@pytest.mark.parametrize("before", [("--policy",), ("--policy", "="), ("--no-page", "--policy")])
def test_bash_is_offered_the_choices_of_a_flag(scripts: Path, before: tuple[str, ...]) -> None:
    assert replies(scripts, "serve", *before, "") == list(POLICIES)
    assert replies(scripts, "serve", *before, "pa") == ["paced"]


def test_bash_is_offered_choices_right_after_an_equals_sign(scripts: Path) -> None:
    assert replies(scripts, "serve", "--policy", "=") == list(POLICIES)


def test_bash_is_offered_models_where_a_model_may_stand(scripts: Path) -> None:
    models = [model.name for model in known_models()]
    assert replies(scripts, "serve", "") == models
    assert replies(scripts, "models", "pull", "") == models
    assert replies(scripts, "serve", "--port", "8000", "") == models
    assert replies(scripts, "serve", "--port", "") == []


# Shells at a terminal.


def words_after(command: list[str], line: str, **environment: str) -> list[str]:
    """The words that `headway` gets in a shell where the line is typed, tabs and all."""
    terminal, inside = pty.openpty()
    shell = subprocess.Popen(
        command,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        env=os.environ | {"TERM": "dumb", "INPUTRC": "/dev/null"} | environment,
    )
    os.close(inside)
    try:
        read_until(terminal, PROMPT)
        os.write(terminal, f"{line}\n".encode())
        text = read_until(terminal, "|\r\n")
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
    return re.findall(r"<([^<>]*)>", text)


def read_until(terminal: int, end: str) -> str:
    text = ""
    while end not in text:
        ready, _, _ = select.select([terminal], [], [], SECONDS)
        assert ready, f"the shell said nothing more after {text!r}"
        text += os.read(terminal, 4096).decode(errors="replace")
    return text


LINES: dict[str, list[str]] = {
    "headway sim\t--compare-p\t": ["simulate", "--compare-policies"],
    "headway serve smol\t--policy=pa\t": ["serve", "smollm2-135m-instruct", "--policy=paced"],
    "headway serve --policy pa\t--slo-b\tx": ["serve", "--policy", "paced", "--slo-batch", "x"],
    "headway ben\tpol\t--html scenario.y\t": ["bench", "policies", "--html", "scenario.yaml"],
    "headway models pu\tsmo\t": ["models", "pull", "smollm2-135m-instruct"],
}


@needs("bash")
@pytest.mark.parametrize(("line", "words"), LINES.items())
def test_bash_at_a_terminal(scripts: Path, tmp_path: Path, line: str, words: list[str]) -> None:
    (tmp_path / "scenario.yaml").touch()
    rc = tmp_path / "rc"
    rc.write_text(f"PS1='{PROMPT}'\n{TOLD}. {scripts}/headway.bash\ncd {tmp_path}\n")
    assert words_after(["bash", "--noprofile", "--rcfile", str(rc), "-i"], line) == words


@needs("zsh")
@pytest.mark.parametrize(("line", "words"), LINES.items())
def test_zsh_at_a_terminal(scripts: Path, tmp_path: Path, line: str, words: list[str]) -> None:
    (tmp_path / "scenario.yaml").touch()
    (tmp_path / ".zshrc").write_text(
        f"PROMPT='{PROMPT}'\nunsetopt zle_bracketed_paste prompt_sp\nautoload -U compinit\n"
        f"compinit -u -D\n{TOLD}. {scripts}/headway.zsh\ncd {tmp_path}\n"
    )
    command = ["zsh", "--no-globalrcs", "-i"]
    assert words_after(command, line, ZDOTDIR=str(tmp_path)) == words


def offered_by_fish(scripts: Path, folder: Path, line: str) -> list[str]:
    code = f"source {scripts}/headway.fish; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return [each.partition("\t")[0] for each in done.stdout.splitlines()]


@needs("fish")
def test_fish(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").touch()

    def ask(line: str) -> list[str]:
        return offered_by_fish(scripts, tmp_path, line)

    assert ask("headway sim") == ["simulate"]
    assert set(ask("headway bench ")) == set(KINDS)
    assert ask("headway --log-level info simulate --compare-p") == ["--compare-policies"]
    assert ask("headway serve --comp") == []
    assert ask("headway serve --policy pa") == ["paced"]
    assert ask("headway serve --policy=pa") == ["--policy=paced"]
    assert ask("headway bench policies --html sc") == ["scenario.yaml"]
    assert ask("headway models pull smo") == ["smollm2-135m-instruct"]
    assert ask("headway serve --port sc") == []
