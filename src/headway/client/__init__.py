"""The API process's side of the engine process: start it, feed it, and survive its death."""

from headway.client.client import EngineClient
from headway.client.handle import EngineHandle, EngineListener, EngineState, Stream
from headway.client.status import ReplicaState, ReplicaStatus

__all__ = [
    "EngineClient",
    "EngineHandle",
    "EngineListener",
    "EngineState",
    "ReplicaState",
    "ReplicaStatus",
    "Stream",
]
