import io

import pytest

from airflow_prs.worker.reading.load_errors import LoadError
from airflow_prs.worker.reading.stretch import Stretch


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    return str(tmp_path / "file")


def test_a_stretch_reads_like_a_file_of_its_own(path):
    with Stretch(path, 2, 6) as file:
        assert file.read(3) == b"234"
        assert file.read(3) == b"5"
        assert file.read() == b""
        assert file.seek(1) == 1
        assert file.read() == b"345"
        assert file.tell() == 4
        assert file.seek(-1, io.SEEK_END) == 3


def test_text_is_read_through_a_stretch(path):
    with Stretch(path, 2, 6) as file:
        assert io.TextIOWrapper(file).read() == "2345"


def test_a_stretch_without_an_end_goes_to_the_end_of_the_file(path):
    with Stretch(path, 8, None) as file:
        assert file.read() == b"89"
    with Stretch(path, 12, None) as file:
        assert file.read() == b""


def test_a_file_that_ends_too_early_is_an_error(path):
    with pytest.raises(LoadError, match=r"bytes 2 to 11\): the file ends at byte 10"):
        Stretch(path, 2, 11)
