"""Scripts that complete the command line in bash, zsh and fish.

All three go the same way: the words before the cursor say which command it is, the last of them
whether a flag waits for its value, and else flags, commands or arguments may follow. They need
nothing but the shell itself (bash 3.2 and later).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from headway.cli.completion_tree import CommandTree, CompletedValue

_BASH = """\
# Bash completion of Headway, made by `headway completion bash`.
_headway() {
    local IFS=$' \\t\\n' at=headway i
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$at ${COMP_WORDS[i]}" in
            @COMMANDS@) at="$at ${COMP_WORDS[i]}" ;;
        esac
    done
    # Bash splits --flag=value into three words.
    if [[ $current == '=' ]]; then
        current=
    elif [[ $before == '=' ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    local flags= kind= words=
    case $at in
@CASES@
    esac
    if [[ $current == -* ]]; then
        kind=words words=$flags
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    # Names of files come by default, where nothing else fits.
    [[ $kind == files ]] || compopt +o default 2> /dev/null
}
complete -o default -F _headway headway
"""

_ZSH = """\
#compdef headway
# Zsh completion of Headway, made by `headway completion zsh`.
_headway() {
    local at=headway before=$words[CURRENT-1] kind= i
    local -a flags below choices
    for ((i = 2; i < CURRENT; i++)); do
        case "$at $words[i]" in
            (@COMMANDS@) at="$at $words[i]" ;;
        esac
    done
    if [[ $words[CURRENT] == --*=* ]]; then
        before=${words[CURRENT]%%=*}
        compset -P '*='
    fi
    case $at in
@CASES@
    esac
    if [[ $PREFIX == -* ]]; then
        _describe -o flag flags
        return
    fi
    (( $#below )) && _describe command below
    (( $#choices )) && compadd -a choices
    [[ $kind == files ]] && _files
}
if [[ $funcstack[1] == _headway ]]; then
    _headway "$@"
else
    compdef _headway headway
fi
"""

_FISH = """\
# Fish completion of Headway, made by `headway completion fish`.
function __headway_at
    set -l at headway
    for word in (commandline -opc)[2..-1]
        switch "$at $word"
            case @COMMANDS@
                set at "$at $word"
        end
    end
    test "$at" = "$argv"
end
complete -c headway -f
"""


def bash_script(tree: CommandTree) -> str:
    """The script for bash."""
    cases = "\n".join(line for command in tree.walk() for line in _bash_case(command))
    return _BASH.replace("@COMMANDS@", _commands(tree)).replace("@CASES@", cases)


def zsh_script(tree: CommandTree) -> str:
    """The script for zsh: to be sourced, or put into a folder of `$fpath` as `_headway`."""
    cases = "\n".join(line for command in tree.walk() for line in _zsh_case(command))
    return _ZSH.replace("@COMMANDS@", _commands(tree)).replace("@CASES@", cases)


def fish_script(tree: CommandTree) -> str:
    """The script for fish."""
    lines = [line for command in tree.walk() for line in _fish_lines(command)]
    commands = " ".join(_quoted(each.name) for each in tree.walk() if each is not tree)
    return _FISH.replace("@COMMANDS@", commands) + "\n".join(lines) + "\n"


SCRIPTS: Mapping[str, Callable[[CommandTree], str]] = MappingProxyType(
    {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}
)


def _commands(tree: CommandTree) -> str:
    """A pattern of the names of all commands but the first."""
    return " | ".join(_quoted(each.name) for each in tree.walk() if each is not tree)


def _bash_case(command: CommandTree) -> Iterator[str]:
    flags = " ".join(name for flag in command.flags for name in flag.names)
    below = [each.name.rpartition(" ")[2] for each in command.commands]
    words = " ".join([*below, *command.argument.words])
    yield f"        {_quoted(command.name)})"
    yield f"            flags={_quoted(flags)}"
    yield "            case $before in"
    for value, names in _by_value(command):
        yield f"                {' | '.join(names)})"
        said = f"kind={value.kind} words={_quoted(' '.join(value.words))}"
        yield f"                    {said} ;;"
    yield f"                *) kind={_kind(command)} words={_quoted(words)} ;;"
    yield "            esac ;;"


def _zsh_case(command: CommandTree) -> Iterator[str]:
    yield f"        ({_quoted(command.name)})"
    yield "            flags=("
    for flag in command.flags:
        for name in flag.names:
            yield f"                {_described(name, flag.help)}"
    yield "            )"
    yield "            case $before in"
    for value, names in _by_value(command):
        chosen = " ".join(map(_quoted, value.words))
        yield f"                ({' | '.join(names)})"
        yield f"                    kind={value.kind} choices=({chosen}) ;;"
    below = " ".join(
        _described(each.name.rpartition(" ")[2], each.help) for each in command.commands
    )
    chosen = " ".join(map(_quoted, command.argument.words))
    yield f"                (*) kind={_kind(command)} below=({below}) choices=({chosen}) ;;"
    yield "            esac ;;"


def _fish_lines(command: CommandTree) -> Iterator[str]:
    start = f"complete -c headway -n {_quoted('__headway_at ' + command.name)}"
    for each in command.commands:
        word = each.name.rpartition(" ")[2]
        yield f"{start} -a {_quoted(word)} -d {_quoted(each.help)}"
    if command.argument.words:
        yield f"{start} -a {_quoted(' '.join(command.argument.words))}"
    if _kind(command) == "files":
        yield f"{start} -F"
    for flag in command.flags:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names
        )
        said = f" -d {_quoted(flag.help)}" if flag.help else ""
        yield f"{start} {names}{_fish_value(flag.value)}{said}"


def _fish_value(value: CompletedValue | None) -> str:
    if value is None:
        return ""
    words = f" -a {_quoted(' '.join(value.words))}" if value.words else ""
    return (" -r -F" if value.kind == "files" else " -x") + words


def _kind(command: CommandTree) -> str:
    return "words" if command.commands else command.argument.kind


def _by_value(command: CommandTree) -> Iterable[tuple[CompletedValue, list[str]]]:
    """Each kind of value with the names of all flags that take it; of switches, nothing."""
    found: dict[CompletedValue, list[str]] = {}
    for flag in command.flags:
        if flag.value is not None:
            found.setdefault(flag.value, []).extend(flag.names)
    return found.items()


def _described(word: str, text: str) -> str:
    """A word with its text, as `_describe` takes it."""
    return _quoted(word.replace(":", "\\:") + (f":{text}" if text else ""))


def _quoted(text: str) -> str:
    """In single quotes, in which all three shells take everything but a quote as it is."""
    return "'" + text.replace("'", "'\\''") + "'"
