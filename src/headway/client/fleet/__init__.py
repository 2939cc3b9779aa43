"""Several engines of one model behind one `EngineHandle`, and requests that move between them."""

from headway.client.fleet.fleet import MOST_REPLICAS, EngineFleet

__all__ = ["MOST_REPLICAS", "EngineFleet"]
