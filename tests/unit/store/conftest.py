"""Stores of each kind."""

from __future__ import annotations

import pytest

from tests.object_servers import SOME_SLOW
from tests.stores import STORES


@pytest.fixture(params=["posix", "memory", *SOME_SLOW])
def store(request, tmp_path):
    """An empty store, of each kind in turn."""
    return STORES[request.param](tmp_path / "store")
