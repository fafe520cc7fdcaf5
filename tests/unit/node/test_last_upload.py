"""A node ends, also if the storage does not take the last lines of its logs."""

from __future__ import annotations

import threading
from unittest import mock

from airflow_prs.node import reporting
from airflow_prs.run_folder.node_files import NodeFiles


def last_upload(upload, monkeypatch, seconds: float = 60) -> list[str]:
    """Upload the logs in this way, and return what is said."""
    said: list[str] = []
    monkeypatch.setattr(reporting, "_LAST_UPLOAD_S", seconds)
    files = mock.create_autospec(NodeFiles, instance=True)
    files.upload_logs.side_effect = upload
    reporting.begin_last_upload(files, said.append)()
    return said


def test_a_node_waits_for_its_logs(monkeypatch):
    assert last_upload(lambda *, is_last: None, monkeypatch) == []


def test_a_node_does_not_wait_for_ever_for_its_logs(monkeypatch):
    ends = threading.Event()
    try:
        (said,) = last_upload(lambda is_last: is_last and ends.wait(), monkeypatch, seconds=0.01)
    finally:
        ends.set()
    assert "not uploaded within 0.01 seconds" in said


def test_storage_that_refuses_the_logs_is_no_error_of_the_node(monkeypatch):
    (said,) = last_upload(mock.Mock(side_effect=OSError("busy")), monkeypatch)
    assert "not uploaded: busy" in said
