"""A local copy ends, whatever happens to it."""

import queue
from dataclasses import replace
from types import SimpleNamespace

from airflow_prs.node.input.download import Download
from airflow_prs.node.input.fetching import Fetcher
from airflow_prs.node.input.parts import NO_FRAME
from airflow_prs.node.input.remote_file import RemoteFile
from airflow_prs.object_storage.addresses import parse_address


def test_an_error_that_nobody_expects_ends_the_copy(tmp_path):
    fetcher, ends = Fetcher(), queue.Queue()
    file = RemoteFile(parse_address("s3://bucket/a"), "etag", fetcher.is_over)

    def find_contents():
        raise IndexError("there is no row group 7")

    Download(
        fetcher,
        file,
        str(tmp_path / "a"),
        urgency=0,
        find_contents=find_contents,
        is_wanted=lambda: True,
        on_end=ends.put,
    ).begin()
    try:
        error = ends.get(timeout=30)
    finally:
        fetcher.close(30)
    assert error == "s3://bucket/a: its local copy cannot be made: IndexError: there is no row group 7"


def test_the_bytes_of_each_read_are_counted_and_not_those_that_are_known(tmp_path):
    fetcher, ends, reads = Fetcher(), queue.Queue(), []
    address = parse_address("s3://bucket/a")
    file = SimpleNamespace(address=address, read=lambda begin, end: b"0123456789"[begin:end])
    frame = replace(NO_FRAME, known=((0, b"head"),))

    Download(
        fetcher,
        file,
        str(tmp_path / "a"),
        urgency=0,
        find_contents=lambda: (frame, [(4, 6), (8, 9)]),
        is_wanted=lambda: True,
        on_end=ends.put,
        on_read=reads.append,
    ).begin()
    try:
        assert ends.get(timeout=30) == ""
    finally:
        fetcher.close(30)
    assert sorted(reads) == [1, 2]
