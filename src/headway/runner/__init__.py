"""The runner: computes a step's plan with a loaded model, and says what it sampled."""

from headway.runner.build import LoadedRunner, build_runner
from headway.runner.torch_runner import TorchRunner

__all__ = ["LoadedRunner", "TorchRunner", "build_runner"]
