"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.store import files


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_published_file_replaces_what_stood_there(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("earlier")
    files.write_atomically(path, b"later")
    assert path.read_bytes() == b"later"
    assert names_in(tmp_path) == ["result.txt"]


def test_a_file_cannot_be_seen_before_it_is_whole(tmp_path):
    path = tmp_path / "result.txt"
    seen = []

    def write(temporary):
        temporary.write_text("whole")
        seen.append(path.exists())

    files.publish(path, write)
    assert seen == [False]
    assert path.read_text() == "whole"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError("broken")])
def test_a_failed_publication_leaves_what_stood_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "result.txt"
    path.write_text("earlier")

    def write(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        files.publish(path, write)
    assert path.read_text() == "earlier"
    assert names_in(tmp_path) == ["result.txt"]


@pytest.mark.parametrize("name", ["a" * 255, "数" * 85, "😀" * 63])
def test_the_longest_name_that_a_file_system_takes_can_be_published(tmp_path, name):
    files.write_atomically(tmp_path / name, b"whole")
    assert names_in(tmp_path) == [name]


def test_the_first_of_two_writers_wins(tmp_path):
    path = tmp_path / "record.json"
    assert files.write_once(path, b"first")
    assert not files.write_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["record.json"]


def test_folders_are_made_with_their_parents_and_may_exist(tmp_path):
    path = tmp_path / "a" / "b" / "c"
    files.make_folder(path)
    files.make_folder(path)
    assert path.is_dir()


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "a").write_text("file")
    with pytest.raises(FileExistsError):
        files.make_folder(tmp_path / "a")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 100, 9000, 3_000_000, 4 << 20, 9_000_001]), max_size=6))
def test_what_is_on_its_way_to_the_disk_early_is_all_that_was_written(sizes):
    parts = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    with TemporaryDirectory() as folder:
        path = Path(folder, "result")
        path.write_bytes(b"earlier")
        with files.EarlyFile(path) as out:
            assert [out.write(part) for part in parts] == sizes
        assert path.read_bytes() == b"".join(parts)
