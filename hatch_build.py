"""Builds the native library into every wheel and editable install.

hatchling calls this on `pip install`. Where there is no C++ compiler, or it refuses, the package is
built without the library and says so; pip shows that only when asked to be verbose, so Headway says
at its first start what to install. All that is known about compilers is in `native/build.py`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "src/headway/native"


class NativeLibraryHook(BuildHookInterface[BuilderConfig]):
    """Compiles before files are collected, and names the platform in the wheel's tag."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        native = _import(Path(self.root) / "native" / "build.py")
        folder = Path(self.root) / PACKAGE
        library = native.build_if_possible(folder, os.environ, self.app.display_warning)
        if library is None:
            return
        # The library knows nothing of Python, so one wheel serves every Python of this platform.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(f"{PACKAGE}/{library.name}")


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("headway_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
