"""Anthropic's messages, as another dialect of the one road that conversations take."""
