"""
CRC-32 of pieces that follow each other, from the CRC-32 of each of them.

One call of zlib for a run of small pieces takes a fraction of what a call for each would. CRC-32 is linear: that of a
run is the exclusive or of those of its pieces, each moved on by the bytes behind it, as if they were zeros.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

LONGEST_BEHIND = 0xFFFF
"""So many bytes of a run may stand behind one of its pieces."""

_POLYNOMIAL = 0xEDB88320


def join_crcs(crcs: npt.NDArray[Any], behind: npt.NDArray[Any], firsts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """
    Work out the CRC-32 of runs of pieces.

    :param crcs: CRC-32 of each piece, unsigned, 32 bits; the pieces of all runs, in order.
    :param behind: bytes of its run that stand behind each piece, at most LONGEST_BEHIND.
    :param firsts: where in these the first piece of each run is; at least one.
    :return: CRC-32 of each run.
    """
    import numpy as np

    by_bytes, by_pages = _moves()
    moved = _move(crcs, by_bytes, behind & 0xFF)
    # Pieces that are as many pages from the end of the same run go on together.
    pages = behind >> 8
    is_first = np.ones(len(crcs), bool)
    is_first[1:] = pages[1:] != pages[:-1]
    is_first[firsts] = True
    groups = np.flatnonzero(is_first)
    moved = _move(np.bitwise_xor.reduceat(moved, groups), by_pages, pages[groups])
    joined: npt.NDArray[Any] = np.bitwise_xor.reduceat(moved, np.searchsorted(groups, firsts))
    return joined


def _move(crcs: npt.NDArray[Any], moves: npt.NDArray[Any], steps: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Move each CRC-32 on by a number of steps, below 256."""
    flat, row = moves.reshape(-1), steps.astype("i8") << 10
    moved: npt.NDArray[Any] = flat.take(row + (crcs & 0xFF))
    for byte in (1, 2, 3):
        moved ^= flat.take(row + (byte << 8) + (crcs >> (8 * byte) & 0xFF))
    return moved


@functools.cache
def _moves() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """
    Make the tables that move a CRC-32 on by 0 to 255 bytes, and by 0 to 255 pages of 256 bytes.

    What a CRC-32 becomes is the exclusive or of what its four bytes become: ``[steps, which byte, value of it]``.
    """
    import numpy as np

    values = np.arange(256, dtype=np.uint32)
    by_byte = values.copy()
    for _ in range(8):
        by_byte = by_byte >> 1 ^ (by_byte & 1) * np.uint32(_POLYNOMIAL)
    by_bytes, by_pages = np.empty((2, 256, 4, 256), np.uint32)
    by_bytes[0] = by_pages[0] = [values << shift for shift in (0, 8, 16, 24)]
    for steps in range(1, 256):
        before = by_bytes[steps - 1]
        by_bytes[steps] = before >> 8 ^ by_byte.take(before & 0xFF)
    page = by_bytes[255] >> 8 ^ by_byte.take(by_bytes[255] & 0xFF)
    for steps in range(1, 256):
        before = by_pages[steps - 1]
        by_pages[steps] = (
            page[0].take(before & 0xFF)
            ^ page[1].take(before >> 8 & 0xFF)
            ^ page[2].take(before >> 16 & 0xFF)
            ^ page[3].take(before >> 24)
        )
    return by_bytes, by_pages
