"""The endpoints beside generating: models, health and load, tokens."""
