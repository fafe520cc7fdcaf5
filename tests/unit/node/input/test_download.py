"""A local copy ends, whatever happens to it."""

import queue

from airflow_prs.node.input.download import Download
from airflow_prs.node.input.fetching import Fetcher
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
