"""The API process's side of the engine process: start it, feed it, and survive its death."""

from headway.client.client import EngineClient, Listener, State
from headway.client.stream import Stream

__all__ = ["EngineClient", "Listener", "State", "Stream"]
