"""Text: token ids and back, chat templates, and text that streams.

The engine knows no text; this package is used by the API side alone. It reads what preparing a
model wrote (`tokenizer.json`, `text.json`) and knows nothing of checkpoints or tensors.
"""

from headway.text.detokenizer import Detokenizer, StopPatterns, StopStrings
from headway.text.template import ChatTemplate, message_text
from headway.text.tokenizer import Tokenizer
from headway.types.model import TextConfig

__all__ = [
    "ChatTemplate",
    "Detokenizer",
    "StopPatterns",
    "StopStrings",
    "TextConfig",
    "Tokenizer",
    "message_text",
]
