"""schemathesis with every check on the API's own description, against a real server.

    python -m pip install schemathesis        # anywhere; its command is looked for on the path
    python tests/hostile/schema.py            # with a key and without; exits with 1 at a finding

What is given after `--` goes to schemathesis (`-- --max-examples 100 --seed 1`).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread

KEY = "a-key"
CHECKS = (
    "--checks=all",
    "--phases=examples,coverage,fuzzing,stateful",
    "--mode=all",
    "--continue-on-failure",
    "--request-timeout=20",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tool", default="schemathesis", help="schemathesis's command")
    parser.add_argument("more", nargs="*", help="arguments of schemathesis")
    arguments = parser.parse_args()
    tool = shutil.which(arguments.tool)
    if tool is None:
        print("schemathesis is not installed: python -m pip install schemathesis")
        return 2
    more = arguments.more or ["--max-examples=20", "--seed=1"]
    return max(check(tool, more, key=key) for key in (False, True))


def check(tool: str, more: list[str], *, key: bool) -> int:
    """Run it once; returns its exit status."""
    command = [sys.executable, "-m", "headway", "serve", "--port=0", "--max-model-len=2048"]
    if key:
        command += ["--api-key", KEY]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = wait_until_ready(server)
            headers = [f"--header=Authorization: Bearer {KEY}"] if key else []
            print(f"{url}, {'with' if key else 'without'} a key", flush=True)
            hooks = Path(__file__).with_name("schema_hooks.py")
            return subprocess.run(
                [tool, "run", f"{url}/openapi.json", *CHECKS, *headers, *more],
                env=os.environ | {"SCHEMATHESIS_HOOKS": str(hooks)},
                check=False,
            ).returncode
        finally:
            server.kill()


def wait_until_ready(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    url = ""
    for line in server.stderr:
        if found := re.search(r"event=listening url=(\S+)", line):
            url = found[1]
        if "event=ready" in line:
            # Somebody must read the log, or the server would wait for that one day.
            Thread(target=server.stderr.read, daemon=True).start()
            return url
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    raise SystemExit(main())
