"""Plain transformers as a program: `generate` for one padded batch a line, and how long it took.

It runs in a process of its own, because the process that measures imports no tensors. The first
line of standard input is the model; every other one is a batch, and is answered by a line on
standard output. There is nothing clever here on purpose: it is what a service is that calls
`model.generate` in a loop, with the precautions that its users know (left padding, no gradients,
a key-value cache, the number format that the machine is fast in).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

PAD = 0
"""Token of padding: never attended to, so any will do."""


class Stamps:
    """A streamer, as transformers calls it: notes when each token of the batch was there."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._started = False

    def put(self, value: object) -> None:  # noqa: ARG002 - the tokens are in what generate returns
        # The prompt comes first.
        if self._started:
            self.times.append(time.perf_counter())
        self._started = True

    def end(self) -> None:
        """Nothing is kept back that would have to be flushed."""


def padded(prompts: Sequence[Sequence[int]]) -> dict[str, list[list[int]]]:
    """Rows of equal length, padding on the left, and the mask that hides it."""
    width = max(map(len, prompts))
    return {
        "input_ids": [[PAD] * (width - len(row)) + list(row) for row in prompts],
        "attention_mask": [[0] * (width - len(row)) + [1] * len(row) for row in prompts],
    }


def load(message: dict[str, Any]) -> Any:
    """The model that a message describes: a folder, the GGUF file in it or null, dtype, device."""
    import transformers

    library: Any = transformers
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    options: dict[str, Any] = {"dtype": message["dtype"], "local_files_only": True}
    if message["gguf"] is not None:
        options["gguf_file"] = message["gguf"]
    if message["device"] != "cpu":
        options["device_map"] = message["device"]
    return library.AutoModelForCausalLM.from_pretrained(message["folder"], **options).eval()


def generate(model: Any, prompts: Sequence[Sequence[int]], tokens: int) -> dict[str, Any]:
    """Greedy tokens for every prompt, exactly so many, and when each was there in seconds."""
    from transformers import BatchEncoding

    stamps = Stamps()
    start = time.perf_counter()
    batch = BatchEncoding(padded(prompts), tensor_type="pt").to(model.device)
    rows = model.generate(
        **batch,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=PAD,
        streamer=stamps,
    ).tolist()
    width = len(rows[0]) - tokens
    return {
        "times": [at - start for at in stamps.times],
        "tokens": [row[width:] for row in rows],
    }


def serve(messages: TextIO, responses: TextIO) -> None:
    """Answer lines until there are no more."""
    model: Any = None
    for line in messages:
        message = json.loads(line)
        try:
            if model is None:
                model = load(message)
                reply: dict[str, Any] = {"ready": True, "dtype": str(model.dtype)}
            else:
                reply = generate(model, message["prompts"], message["tokens"])
        except Exception as error:  # of any kind: the other side gets its text
            reply = {"error": f"{type(error).__name__}: {error}"}
        responses.write(json.dumps(reply) + "\n")
        responses.flush()


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Standard output is for responses alone: what libraries print goes to standard error.
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, responses)


if __name__ == "__main__":
    main()
