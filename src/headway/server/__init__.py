"""The HTTP server: OpenAI's endpoints with vLLM's additions, over `headway.llm.AsyncLLM` alone.

`create_app` gives the ASGI application over a model that is ready, `run_server` does everything.
"""

from headway.server.app import create_app
from headway.server.run import run_server

__all__ = ["create_app", "run_server"]
