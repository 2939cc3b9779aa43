"""docs/flags.md, made from the tables of other servers' flags.

Run as `python -m headway.cli.flags_document`; `headway serve --help-all` prints it as well.
"""

from __future__ import annotations

from headway.cli.compatibility import SERVERS, Rule, rules

HEAD = """# Flags of other servers

`headway serve` knows the flags of `vllm serve` (0.33) and the common ones of `llama-server`, so
that a script can be tried as it is. A flag has one of four outcomes; nothing is passed over in
silence.

- **Headway's own**: the name and the meaning are the same.
- **Another name**: taken as Headway's flag for it.
- **Accepted**: what it asks for is done anyway, or it tunes a part that Headway has not and changes
  no answer. The log has a line for it. Where values are listed, others are refused: they ask for
  something else.
- **Refused**, with what to use instead, or why there is nothing: the server does not start.

Names may be written with underscores, switches as `--x`, `--no-x` or `--x=true`, parts of a JSON
value by a name with a dot: `--speculative-config.method ngram`. A `--config` file may have these
flags as well. This page is made from `src/headway/cli/data` by
`python -m headway.cli.flags_document > docs/flags.md`.
"""


def document() -> str:
    """The whole page, as Markdown."""
    return HEAD + "".join(_section(server, command) for server, command in SERVERS.items())


def _section(server: str, command: str) -> str:
    known = rules(server)
    own = [rule for rule in known if rule.outcome == "supported"]
    lines = [f"\n## `{command}`\n\nHeadway's own: {_names(own)}.\n"]
    for rule in own:
        for value, meant in (rule.values or {}).items():
            what = f"is `{meant}` here" if meant else "leaves it to Headway, as without the flag"
            lines.append(f"`{rule.flags[0]} {value}` {what}.")
    lines += ["\n| flag | is | |\n|---|---|---|"]
    for rule in known:
        if rule.outcome == "alias":
            lines.append(f"| {_names([rule])} | another name | {_alias(rule)} |")
    groups: dict[tuple[str, tuple[str, ...] | None, str], list[Rule]] = {}
    for rule in known:
        if rule.outcome in ("accepted", "refused"):
            groups.setdefault((rule.outcome, rule.fits, rule.note), []).append(rule)
    for (outcome, fits, note), some in groups.items():
        values = "" if fits is None or outcome == "refused" else _fitting(fits)
        lines.append(f"| {_names(some)} | {outcome}{values} | {note} |")
    return "\n".join(lines) + "\n"


def _names(some: list[Rule]) -> str:
    return ", ".join(" ".join(f"`{flag}`" for flag in rule.flags) for rule in some)


def _alias(rule: Rule) -> str:
    left = [value for value, meant in (rule.values or {}).items() if not meant]
    target = "MODEL" if rule.target == "--model" else rule.target
    return f"`{target}`" + "".join(f"; `{value}` leaves it to Headway" for value in left)


def _fitting(fits: tuple[str, ...]) -> str:
    shown = {"true": "on", "false": "off"}
    return ": " + ", ".join(shown.get(each, f"`{each}`") for each in fits)


if __name__ == "__main__":
    print(document(), end="")
