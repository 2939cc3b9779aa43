"""Record what transformers makes of 20 prompts, in float32 and greedily, for `test_real_models`.

    python -m tests.golden.record smollm2-135m-instruct path/to/model.gguf --norm-eps 1e-5

`--norm-eps` overrides the epsilon of the norms, which transformers does not take from every file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers

NEW = 24

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "Water boils at a temperature of",
    "The three primary colours are",
    "In 1969, the first humans",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 2, 3, 5, 8, 13,",
    "SELECT name, age FROM",
    "To make a good cup of tea, first",
    "The opposite of hot is",
    "Photosynthesis is the process by which",
    "import numpy as np\n\nx = np.",
    "Die Hauptstadt von Deutschland ist",
    "A train leaves the station every ten minutes. Its headway is",
    "Q: What is 7 times 8?\nA:",
    "The quick brown fox jumps over the lazy dog. " * 8,
    "<html>\n  <head>\n    <title>",
    "Roses are red, violets are blue,",
    "According to the theory of relativity, nothing can travel",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("file", type=Path)
    parser.add_argument("--norm-eps", type=float)
    given = parser.parse_args()
    where = {"gguf_file": given.file.name}
    load: Any = transformers.AutoModelForCausalLM.from_pretrained
    model = load(given.file.parent, dtype=torch.float32, **where).eval()
    if given.norm_eps is not None:
        _set_eps(model, given.norm_eps)
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.file.parent, **where)
    cases = [_case(model, tokenizer, prompt) for prompt in PROMPTS]
    target = Path(__file__).parent / f"{given.name}.json"
    target.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


def _set_eps(model: Any, eps: float) -> None:
    for module in model.modules():
        for name in ("variance_epsilon", "eps"):
            if hasattr(module, name) and "Norm" in type(module).__name__:
                setattr(module, name, eps)


@torch.no_grad()
def _case(model: Any, tokenizer: Any, prompt: str) -> dict[str, Any]:
    tokens = tokenizer(prompt)["input_ids"]
    past, new, fed, gaps = None, [], tokens, []
    for _ in range(NEW):
        out = model(torch.tensor([fed]), past_key_values=past, use_cache=True)
        past = out.past_key_values
        best = out.logits[0, -1].float().topk(2)
        new.append(int(best.indices[0]))
        gaps.append(float(best.values[0] - best.values[1]))
        fed = new[-1:]
    return {"prompt": prompt, "tokens": tokens, "new": new, "smallest_gap": round(min(gaps), 5)}


if __name__ == "__main__":
    main()
