"""OpenAI's Responses API: another dialect of conversations, whose answers the server may keep."""
