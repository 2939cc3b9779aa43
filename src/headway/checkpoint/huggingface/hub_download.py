"""Downloads from the Hugging Face hub: `python hub_download.py REPOSITORY FOLDER FILE`.

A program of its own, so that a download can be ended at once: the hub's client runs threads that
cannot be. FILE may be empty: then a repository's safetensors and text files are fetched. Writes one
JSON object: `path`, or `error`. Imports nothing of this package.
"""

from __future__ import annotations

import json
import sys

TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)
_WEIGHTS = ("config.json", "model*.safetensors", "model.safetensors.index.json")


def main(repository: str, folder: str, file: str) -> dict[str, str]:
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        if file:
            return {"path": hf_hub_download(repository, file, cache_dir=folder)}
        wanted = [*_WEIGHTS, *TEXT_FILES]
        return {"path": snapshot_download(repository, cache_dir=folder, allow_patterns=wanted)}
    except Exception as error:  # the client has dozens of errors of its own and of its HTTP library
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return {"error": reason[0]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
