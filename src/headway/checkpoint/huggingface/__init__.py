"""Hugging Face directories: configs, safetensors, tokenizers, and the canonical form."""
