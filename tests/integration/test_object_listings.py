"""Listings and plans of inputs on servers of object storage."""

import threading
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest

from airflow_prs.config.datasets import FileDataset
from airflow_prs.errors import ConfigError, InputError, StorageError
from airflow_prs.inputs.files import objects
from airflow_prs.inputs.files.listing import list_files
from airflow_prs.node.input.remote_file import RemoteFile
from airflow_prs.object_storage.addresses import Bucket, Kind, parse_address
from airflow_prs.object_storage.connecting import _refuse, use_connections
from tests.object_servers import SOME_SLOW, azure_client, s3_client, serve
from tests.table_plans import KINDS, table_plan, write_table


@pytest.fixture(params=SOME_SLOW)
def server(request):
    found = serve(request.param)
    use_connections(found.connect)
    yield found
    use_connections(_refuse)


@pytest.fixture
def top(server):
    """Return an address below which there is nothing."""
    return f"{server.bucket}/{uuid4().hex}"


def put(server, top, keys, content=b"x"):
    store = server.connect().objects
    above = top.removeprefix(f"{server.bucket}/")
    for key in keys:
        store.put(f"{above}/{key}", content)


KEYS = [
    *(f"day={day}/{number}.csv" for day in (1, 2, 3) for number in range(6)),
    *("day=2-/1.csv", "day=2!/1.csv", "day=20/1.csv", "day=2", "a/b/c.txt", "a-/b", "a!b", "ä ü/%20?#.csv", "[x]/1"),
    *(".hidden/1", "_parallel_run/run/1", "_parallel_run/run/2", "_parallel_run/run/3", "_SUCCESS"),
]
PATTERNS = ["", "/", "day=2", "day=2*/*", "day=2-*/*.csv", "*", "**/*.csv", "a*/**", "[x]/*", "day=?/[1-3].csv", "*/1*"]


@pytest.mark.parametrize("are_tables", [False, True])
def test_objects_are_listed_as_files_are(server, top, tmp_path, monkeypatch, are_tables):
    monkeypatch.setattr(objects, "_PAGE", 2)
    keys = [key for key in KEYS if key != "day=2"]
    put(server, top, keys)
    for key in keys:
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for pattern in PATTERNS:
        local = list_files(f"{tmp_path}/{pattern}", base="/", are_tables=are_tables)
        remote = list_files(f"{top}/{pattern}".replace("//day", "/day").rstrip("/"), base="/", are_tables=are_tables)
        assert [path.removeprefix(top) for path in remote.paths] == [
            path.removeprefix(str(tmp_path)) for path in local.paths
        ], pattern
        assert len(remote.unmatched) == len(local.unmatched)


@pytest.mark.parametrize("suffix", ["csv.gz", "jsonl", "parquet", "feather"])
def test_tables_are_cut_as_on_a_disk(server, top, tmp_path, suffix):
    for name in ("k=1/1", "k=2/2"):
        path = tmp_path / f"{name}.{suffix}"
        write_table(path, pd.DataFrame({"n": [1, 2, 3], "t": ["a", None, "ü"]}))
        put(server, top, [f"{name}.{suffix}"], path.read_bytes())
    plans = [table_plan(tmp_path, KINDS[suffix](path), run=path) for path in (f"{tmp_path}/k=*/*.{suffix}", top)]
    cuts = [
        [
            (m.items, m.size_bytes, [(Path(p.path).name, *p[1:4]) for p in m.pieces])
            for m in plan.folder.read_mini_batches(0, plan.manifest.mini_batches)
        ]
        for plan in plans
    ]
    assert cuts[0] == cuts[1]
    assert plans[0].folder.read_settings().inputs == plans[1].folder.read_settings().inputs


def test_objects_that_only_mark_folders_are_left_out(server, top):
    put(server, top, ["d/1", "d/2"])
    put(server, top, ["d/empty"], b"")
    if server.kind is Kind.S3:
        above = top.removeprefix(f"{server.bucket}/")
        for key in ("", "/d", "/d/marker"):
            s3_client(server.url).put_object(Bucket=server.bucket.name, Key=f"{above}{key}/", Body=b"")
    listing = list_files([top, f"{top}/d/", f"{top}/*/*"], base="/")
    assert [path.removeprefix(f"{top}/") for path in listing.paths] == ["d/1", "d/2", "d/empty"]


@pytest.mark.parametrize("key", ["a//b", "g\nh"])
def test_a_key_that_no_file_can_have_is_refused(key):
    server = serve("azurite")
    use_connections(server.connect)
    name = uuid4().hex
    azure_client(server.url, server.bucket.name).upload_blob(f"{name}/{key}", b"x")
    with pytest.raises(InputError, match=r"cannot be listed, since the key .* cannot be the path of a file") as found:
        list_files(f"{server.bucket}/{name}/*", base="/")
    assert repr(f"{name}/{key}") in str(found.value)
    use_connections(_refuse)


def test_a_missing_bucket_is_named(server):
    bucket = Bucket(server.kind, "no-such-bucket", "conn")
    for path in ("", "/a", "/*", "/a/"):
        with pytest.raises(StorageError, match=r"no (bucket|container) no-such-bucket"):
            list_files(f"{bucket}{path}", base="/")


@pytest.mark.parametrize("name", ["seaweed", "azurite"])
def test_refused_credentials_name_the_bucket_and_the_connection(name, tmp_path):
    server = serve(name)
    secret = "d3Jvbmc=" if server.kind is Kind.AZURE else "wrong"
    use_connections(lambda bucket: server.connect(bucket, secret=secret))
    bucket = Bucket(server.kind, server.bucket.name, "conn")
    for path in ("", "/a", "/*"):
        with pytest.raises(StorageError, match=r"shared.*access denied.*connection conn") as found:
            table_plan(tmp_path, FileDataset(f"{bucket}{path}"))
        assert secret not in str(found.value)
    use_connections(_refuse)


def test_a_node_finds_the_version_that_plan_has_listed(server, top):
    put(server, top, ["1.parquet"])
    listing = list_files(top, base="/")
    (version,) = listing.versions(slice(None)).to_pylist()
    assert RemoteFile(parse_address(listing.paths[0]), version, threading.Event()).size() == 1
    assert list_files(listing.paths[0], base="/").digest() == listing.digest()


def test_an_output_that_is_a_file_or_an_object_is_refused(server, top, tmp_path):
    put(server, top, ["in/1", "taken"])
    (tmp_path / "taken").write_text("x")
    for output, what in ((f"{top}/taken", "an object"), (f"{tmp_path}/taken", "a file")):
        with pytest.raises(ConfigError, match=rf"output is '.*/taken', {what}; allowed: a folder"):
            table_plan(tmp_path, FileDataset(f"{top}/in"), changes={"output": output})


def test_run_folders_and_the_result_below_the_input_are_no_input(server, top, tmp_path):
    put(server, top, ["1", "2", "result.txt"])
    changes = {"output": top, "published_name": "result.txt"}
    for run in "12":
        planned = table_plan(tmp_path, FileDataset(top), changes=changes, run=run, mini_batch_size=1)
        batches = planned.folder.read_mini_batches(0, planned.manifest.mini_batches)
        assert [piece.path for batch in batches for piece in batch.pieces] == [f"{top}/1", f"{top}/2"]
