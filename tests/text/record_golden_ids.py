"""Record what transformers makes of texts with the real models' vocabularies.

    python -m tests.text.record_golden_ids SMOLLM2.gguf GEMMA3.gguf

One correction: SmolLM2 was trained with digits split off before anything else, which its GGUF
states ("smollm") and transformers passes over; it shows where a run of spaces precedes a digit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

GOLDEN = Path(__file__).with_name("golden_ids.json")
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  Hello   world 123\n\n\n 4567  8",
    "I'm sure you're right; they'LL say it's 3.14159 or 1,000,000.",
    "def f(x):\n    return x[0] + 12  # comment\n\n\tif  x == 10:\r\n        pass\n",
    "日本語のテキスト、中文。한국어 العربية עברית हिन्दी ไทย Ελληνικά Кириллица",
    "👩‍👩‍👧‍👦🏳️‍🌈 zero\u200bwidth no\u00a0break \ufeff",
    "café cafe\u0301 ﬁ Å İstanbul ß \U0001d518nicode",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|><bos><start_of_turn>user\nHi<end_of_turn><eos>",
    "<unk><0x41>[multimodal]<unused7><|im_start",
    "▁lower ▁▁ one eighth blocks",
    "\x00\x01\x7f\t\t\ttabs and controls",
    'https://example.org/a?b=c&d=%20#e {"json": [1, 2.5e-3, null]}',
    "a" * 300 + " " * 70 + "b",
    "\n" * 40 + "end",
]


def main(smollm2: Path, gemma3: Path) -> None:
    from transformers import AutoTokenizer

    golden: dict[str, Any] = {"texts": TEXTS}
    for name, path in (("smollm2-135m-instruct", smollm2), ("gemma-3-270m", gemma3)):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        if name.startswith("smollm2"):
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            )
        golden[name] = [tokenizer(text).input_ids for text in TEXTS]
    GOLDEN.write_text(json.dumps(golden, ensure_ascii=True, indent=None) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
