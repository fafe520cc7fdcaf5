"""Marks on the bytes of a block, a bit for each: many bytes are looked at in one step, and few numbers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bits = npt.NDArray[np.uint64]
    """Words of 64 bytes' bits, the first byte's in the lowest place."""

WORD = 64
_DOUBLINGS = (1, 2, 4, 8, 16, 32)
_FEW = 8
_TAIL = 64
"""Words at the end of a block in which its last mark nearly always is."""
_ONES = bytes(number.bit_count() for number in range(256))


def pack(mask: npt.NDArray[np.bool_]) -> Bits:
    """Give a bit for each byte of a block."""
    import numpy as np

    packed = np.packbits(mask, bitorder="little")
    padding = -len(packed) % 8
    words: Bits = (np.append(packed, np.zeros(padding, np.uint8)) if padding else packed).view("<u8")
    return words


class Marker:
    """Marks the bytes of blocks, one block after the other in the same memory: fresh memory costs as much again."""

    def __init__(self) -> None:
        import numpy as np

        self._mask = np.empty(0, np.bool_)

    def equal(self, text: npt.NDArray[np.uint8], byte: int) -> Bits:
        """Mark the bytes that are this one."""
        import numpy as np

        return pack(np.equal(text, byte, out=self._room(len(text))))

    def up_to(self, text: npt.NDArray[np.uint8], byte: int) -> Bits:
        """Mark the bytes that are not above this one."""
        import numpy as np

        return pack(np.less_equal(text, byte, out=self._room(len(text))))

    def _room(self, size: int) -> npt.NDArray[np.bool_]:
        import numpy as np

        if len(self._mask) < size:
            self._mask = np.empty(size, np.bool_)
        return self._mask[:size]


def after(bits: Bits, *, first: bool) -> Bits:
    """
    Mark the bytes that come right after marked ones.

    :param first: whether the byte before the block is a marked one.
    """
    import numpy as np

    moved: Bits = bits << np.uint64(1)
    moved[1:] |= bits[:-1] >> np.uint64(WORD - 1)
    moved[0] |= np.uint64(first)
    return moved


def between(bits: Bits, *, is_open: bool) -> Bits:
    """
    Mark the bytes from each first, third, ... marked one to the one before the next.

    :param is_open: whether the block begins between two.
    """
    import numpy as np

    odd: Bits = bits.copy()
    odd[0] ^= np.uint64(is_open)
    moved = np.empty_like(odd)
    for distance in _DOUBLINGS:
        np.left_shift(odd, np.uint64(distance), out=moved)
        odd ^= moved
    # A signed number moved right is all ones where its last byte is marked: what each word hands on to the next.
    handed_on = np.bitwise_xor.accumulate(odd.view(np.int64) >> np.int64(WORD - 1))
    odd[1:] ^= handed_on[:-1].view(np.uint64)
    return odd


def last_of(bits: Bits) -> int | None:
    """Find the last marked byte."""
    import numpy as np

    for begin in (max(0, len(bits) - _TAIL), 0):
        words = np.flatnonzero(bits[begin:])
        if len(words):
            word = begin + int(words[-1])
            return word * WORD + int(bits[word]).bit_length() - 1
    return None


class Starts:
    """
    Where records start: positions in ascending order, held as bits.

    :param bits: of the bytes from ``base`` on.
    """

    def __init__(self, bits: Bits, base: int) -> None:
        self._bits = bits
        self._base = base
        self._counted = _count_ones(bits).cumsum(dtype="int64")
        self._length = int(self._counted[-1])
        self._positions: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(cls, positions: Sequence[int] | npt.NDArray[np.int64]) -> Starts:
        """Make bits of positions."""
        import numpy as np

        listed = np.asarray(positions, np.int64)
        base = int(listed[0]) if len(listed) else 0
        mask = np.zeros(int(listed[-1]) - base + 1 if len(listed) else 1, np.bool_)
        mask[listed - base] = True
        return cls(pack(mask), base)

    def __len__(self) -> int:
        return self._length

    def at(self, number: int) -> int:
        """Give the position of one, counted from 0."""
        if self._positions is not None:
            return int(self._positions[number])
        word = int(self._counted.searchsorted(number, "right"))
        bits = int(self._bits[word])
        for _ in range(number - (int(self._counted[word - 1]) if word else 0)):
            bits &= bits - 1
        return self._base + word * WORD + (bits & -bits).bit_length() - 1

    def at_each(self, numbers: range) -> list[int]:
        """Give the positions of some."""
        if len(numbers) <= _FEW:
            return [self.at(number) for number in numbers]
        positions: list[int] = self.positions()[numbers.start : numbers.stop : numbers.step].tolist()
        return positions

    def count_to(self, position: int) -> int:
        """Count those that are not behind a position."""
        if self._positions is not None:
            return int(self._positions.searchsorted(position, "right"))
        word, bit = divmod(position - self._base, WORD)
        if word < 0:
            return 0
        if word >= len(self._bits):
            return self._length
        before = int(self._counted[word - 1]) if word else 0
        return before + (int(self._bits[word]) & (2 << bit) - 1).bit_count()

    def positions(self) -> npt.NDArray[np.int64]:
        """Give all; from then on looking for one is faster."""
        import numpy as np

        if self._positions is None:
            bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
            self._positions = np.flatnonzero(bits) + self._base
        return self._positions

    def without_first(self) -> Starts:
        """Give the others."""
        word = int(self._counted.searchsorted(0, "right"))
        bits = self._bits.copy()
        bits[word] &= bits[word] - bits.dtype.type(1)
        return Starts(bits, self._base)


def _count_ones(bits: Bits) -> npt.NDArray[np.uint8]:
    import numpy as np

    if hasattr(np, "bitwise_count"):  # from numpy 2 on
        return np.bitwise_count(bits)
    return count_by_table(bits)


def count_by_table(bits: Bits) -> npt.NDArray[np.uint8]:
    """Count the ones of each word as any numpy can."""
    import numpy as np

    table = np.frombuffer(_ONES, np.uint8)
    counts: npt.NDArray[np.uint8] = table[bits.view(np.uint8)].reshape(-1, 8).sum(axis=1, dtype=np.uint8)
    return counts
