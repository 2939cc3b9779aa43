"""The runner: computes a step's plan with a loaded model, and says what it sampled.

`build_runner` chooses the backend. The native runner and what it uses know no PyTorch; the torch
runner and its sampling, which are also the definition of what both do, are imported only when
they are wanted.
"""

from headway.runner.build import build_runner
from headway.runner.loaded import LoadedRunner

__all__ = ["LoadedRunner", "build_runner"]
