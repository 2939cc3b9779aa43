"""Ollama's API, which many desktop tools speak and no other: chats, completions, and the model."""
