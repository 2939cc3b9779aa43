"""The API process's side of the engine process: start it, feed it, and survive its death."""

from headway.client.client import EngineClient
from headway.client.handle import EngineHandle, EngineListener, EngineState, Stream

__all__ = ["EngineClient", "EngineHandle", "EngineListener", "EngineState", "Stream"]
