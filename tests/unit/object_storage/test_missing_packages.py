"""Without the packages for object storage, the error names them, whatever is done first."""

import sys
import threading

import pytest

from airflow_prs.errors import PrsError
from airflow_prs.inputs.files.listing import list_files
from airflow_prs.inputs.files.opening import fetch
from airflow_prs.node.input.remote_file import RemoteFile
from airflow_prs.object_storage import ambient
from airflow_prs.object_storage.addresses import parse_address
from airflow_prs.object_storage.connecting import _refuse, use_connections
from airflow_prs.store.opening import open_store

ADDRESS = parse_address("s3://bucket/a")


@pytest.fixture
def bare(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    use_connections(ambient.connect)
    yield
    use_connections(_refuse)


@pytest.mark.parametrize(
    "use",
    [
        lambda: list_files(str(ADDRESS), base="/"),
        lambda: fetch(ADDRESS, "etag", 0, 1),
        lambda: RemoteFile(ADDRESS, None, threading.Event()).read(),
        lambda: open_store(ADDRESS).get("b"),
        lambda: open_store(ADDRESS).put("b", b""),
        lambda: open_store(ADDRESS).writer("b").__enter__(),
        lambda: open_store(ADDRESS).new_upload("b"),
    ],
)
def test_missing_packages_are_named(bare, use):
    with pytest.raises(PrsError, match=r"s3://bucket.*not installed .*pip install 'airflow-prs\[s3\]'"):
        use()
