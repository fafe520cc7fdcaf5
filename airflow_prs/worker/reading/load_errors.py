"""The error for a mini-batch that cannot be read, and the name of a piece in it."""

from __future__ import annotations


class LoadError(Exception):
    """A mini-batch cannot be read; the message begins with the file."""


def name_piece(path: str, begin: int | None, end: int | None, row_group: int | None) -> str:
    """Return a piece as messages name it, such as ``/in/a.csv (bytes 0 to 100)``."""
    if begin is None and row_group is None:
        return path
    unit = "bytes" if row_group is None else f"row group {row_group}"
    extent = "" if begin is None else f" {begin} to {end}" if row_group is None else f", rows {begin} to {end}"
    return f"{path} ({unit}{extent})"
