"""The runner: computes a step's plan with a loaded model, and says what it sampled.

`build_runner` chooses the backend. `native` and what it uses know no PyTorch. `torch` is imported
only where it is wanted; it and `sampling` are also the definition of what both runners do.
"""

from headway.runner.build import build_runner
from headway.runner.memory import LoadedRunner

__all__ = ["LoadedRunner", "build_runner"]
