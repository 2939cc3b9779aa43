"""Speculation: where drafts come from, and how many of them pay."""
