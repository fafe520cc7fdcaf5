"""Errors of pieces that cannot be read."""

from __future__ import annotations


class LoadError(Exception):
    """A mini-batch cannot be read; the message begins with the file."""


def name_piece(path: str, begin: int | None, end: int | None, row_group: int | None) -> str:
    """Name a piece in words."""
    if begin is None and row_group is None:
        return path
    unit = "bytes" if row_group is None else f"row group {row_group}"
    extent = "" if begin is None else f" {begin} to {end}" if row_group is None else f", rows {begin} to {end}"
    return f"{path} ({unit}{extent})"
