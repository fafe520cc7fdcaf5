"""Pieces that are verified together are held against the checksum of each."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.result.checksums import LONGEST_BEHIND, join_crcs

PIECE = st.one_of(st.binary(max_size=5), st.integers(0, 2000).map(lambda size: bytes(range(256)) * (size // 256 + 1)))


def join(runs: list[list[bytes]]) -> list[int]:
    crcs = [zlib.crc32(piece) for run in runs for piece in run]
    behind = [sum(map(len, run[place + 1 :])) for run in runs for place in range(len(run))]
    firsts = [0, *itertools.accumulate(len(run) for run in runs[:-1])]
    return join_crcs(np.array(crcs, np.uint32), np.array(behind), np.array(firsts)).tolist()


@given(st.lists(st.lists(PIECE, min_size=1, max_size=8), min_size=1, max_size=5))
def test_a_run_has_the_checksum_that_its_bytes_have(runs):
    assert join(runs) == [zlib.crc32(b"".join(run)) for run in runs]


def test_as_many_bytes_as_are_allowed_may_stand_behind_a_piece():
    run = [b"first", b"x" * (LONGEST_BEHIND - 1), b"y"]
    assert join([run, run]) == [zlib.crc32(b"".join(run))] * 2
