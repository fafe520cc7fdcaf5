"""A finder of modules that exist only in memory, for modules that the environment does not have."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class StandIns:
    """
    Finds modules that consist of names and values. At the end of ``sys.meta_path`` it does not replace other modules.

    :param contents: module name to its names and values; a module that contains another one is a package.
    """

    def __init__(self, contents: Mapping[str, Mapping[str, Any]]) -> None:
        self._contents = contents

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a module, for importlib; None: it is not one of these."""
        del path, target
        if name not in self._contents:
            return None
        is_package = any(other.startswith(f"{name}.") for other in self._contents)
        return importlib.util.spec_from_loader(name, self, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None, so that importlib makes the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module."""
        vars(module).update(self._contents[module.__name__])
