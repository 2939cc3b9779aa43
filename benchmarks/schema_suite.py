"""The JSON Schema test suite, draft 2020-12: is anything drawn from a schema invalid under it?

The suite is in the source distribution of the package jsonschema:

    pip download --no-deps --no-binary :all: jsonschema
    python benchmarks/schema_suite.py jsonschema-4.26.0.tar.gz --out results.json

Every schema is compiled; from what is taken, texts are drawn at random as a model could write them,
and validated. What is refused is listed by the reason.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import ValidationError

from headway.errors import InvalidRequest
from headway.types import Grammar

sys.path.insert(0, str(Path(__file__).parents[1]))  # where texts are drawn
from tests.grammar.letters import draw
from tests.grammar.validity import validate

FOLDER = re.compile(r"/json/tests/draft2020-12/(.*)\.json$")

PATTERNS = "optional/ecmascript-regex"
"""What patterns mean in ECMAScript; who validates here reads them as Python does."""


def groups(archive: Path) -> Iterator[tuple[str, str, Any]]:
    """The keyword, the description and the schema of each group of the suite's tests."""
    with tarfile.open(archive) as files:
        for member in sorted(files.getmembers(), key=lambda member: member.name):
            found = FOLDER.search(member.name)
            content = files.extractfile(member) if found else None
            if found and content:
                for group in json.load(content):
                    yield found[1], group["description"], group["schema"]


def outcome(keyword: str, schema: Any, draws: int) -> tuple[str, str]:
    """One word for what came of a schema, and the reason or the first wrong text."""
    asked = Grammar(kind="json", text=json.dumps(schema))
    ended = 0
    for seed in range(draws):
        try:
            text = draw(asked, seed)
        except InvalidRequest as error:
            return "refused", _reason(error.message)
        except AssertionError as error:
            return "stuck", str(error).partition("\n")[0]
        if text is None:
            continue
        ended += 1
        if keyword == PATTERNS:
            return "not checked", ""
        try:
            validate(json.loads(text), schema)
        except (ValueError, ValidationError):
            return "invalid", text
    return ("valid", "") if ended else ("endless", "")


def _reason(message: str) -> str:
    """Without what is of this schema alone."""
    message = message.removeprefix("structured_outputs: ")
    if message.startswith("Unimplemented keys"):
        return message
    return re.sub(r"(\"|').*?\1|\d+|: http\S*|#\S*", "...", message)[:100]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--draws", type=int, default=40, help="texts of each schema")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    words: Counter[str] = Counter()
    reasons: dict[str, list[str]] = defaultdict(list)
    wrong = []
    for keyword, description, schema in groups(arguments.archive):
        word, why = outcome(keyword, schema, arguments.draws)
        words[word] += 1
        if word == "refused":
            reasons[why].append(f"{keyword}: {description}")
        elif word not in ("valid", "not checked"):
            wrong.append({"schema": schema, "of": f"{keyword}: {description}", word: why})
    record = {
        "archive": arguments.archive.name,
        "schemas": sum(words.values()),
        "outcomes": dict(words),
        "refused": {why: len(some) for why, some in sorted(reasons.items())},
        "not valid": wrong,
    }
    print(json.dumps(record, indent=1, ensure_ascii=False))
    if arguments.out:
        arguments.out.write_text(json.dumps(record | {"refused": reasons}, indent=1) + "\n")
    return 1 if words["invalid"] or words["stuck"] else 0


if __name__ == "__main__":
    sys.exit(main())
