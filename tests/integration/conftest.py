"""What several integration tests need."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing in it."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, symlinks=sys.platform != "win32")
    return folder / "bin" / "python"
