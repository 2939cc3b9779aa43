"""The tiny models of the runner's tests."""

from tests.runner.conftest import tinies

__all__ = ["tinies"]
