"""Several engines of one model behind one `EngineHandle`, and requests that move between them."""

from headway.client.fleet.fleet import EngineFleet
from headway.client.fleet.shares import PLACE

__all__ = ["PLACE", "EngineFleet"]
