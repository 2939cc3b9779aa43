"""GGUF files: header, tensors, vocabulary, and the canonical form they come out in."""
