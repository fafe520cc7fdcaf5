"""Whole numbers beside missing values: the types of pandas that hold them without rounding."""

from __future__ import annotations

_EXACT = 2**53
"""Up to it a float holds every whole number."""


def is_exact_float(number: int) -> bool:
    """Whether a float holds a whole number and all that are nearer to 0."""
    return -_EXACT <= number <= _EXACT


def type_with_missing(lowest: int, highest: int) -> str | None:
    """
    Return the type of a column of whole numbers of which some are missing; None: none holds them.

    pandas makes floats of them; that is kept where it rounds no number.

    :param lowest: of the numbers.
    :param highest: of the numbers.
    """
    if is_exact_float(lowest) and is_exact_float(highest):
        return "float64"
    if lowest >= -(2**63) and highest < 2**63:
        return "Int64"
    return "UInt64" if lowest >= 0 and highest < 2**64 else None
