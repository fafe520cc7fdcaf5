"""The versions of Python and of the packages that cut and read rows in this process."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version


def own_versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that cut and read rows; None for a missing package."""
    return {"python": sys.version, **{name: _version(name) for name in ("airflow-prs", "pandas", "pyarrow")}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
