"""Files that are read from object storage in ranges."""

from __future__ import annotations

import pytest

from airflow_prs.object_storage import ranges
from airflow_prs.object_storage.ranges import RangeFile


@pytest.fixture(autouse=True)
def _has_small_blocks(monkeypatch):
    monkeypatch.setattr(ranges, "_LEAST_BYTES", 2)
    monkeypatch.setattr(ranges, "_BLOCK_BYTES", 4)


def test_a_file_can_be_read_on_after_an_error_of_what_is_read_ahead():
    data, broken = bytes(range(64)), {40}

    def fetch(begin: int, end: int) -> bytes:
        if any(begin <= place < end for place in broken):
            raise OSError("busy")
        return data[begin:end]

    with RangeFile(len(data), fetch, ahead=2) as file:
        read = b"".join(file.read(2) for _ in range(18))
        with pytest.raises(OSError, match="busy"):
            file.read(8)
        with pytest.raises(OSError, match="busy"):
            file.read(8)
        broken.clear()
        assert read + file.read() == data
