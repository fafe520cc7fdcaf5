"""What object storage adds: answers that get lost, busy servers, refused requests, and racing processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import uuid4

import pytest

from airflow_prs.errors import RunFolderError, StorageError, SupersededError
from airflow_prs.object_storage import clients
from airflow_prs.object_storage.addresses import Address, Bucket
from airflow_prs.store.objects import ObjectStore
from airflow_prs.store.probing import probe_store
from tests.fault_proxy import BUSY, CUT, LOSE, SLOW, FaultProxy, every, fault_proxy
from tests.object_servers import SOME_SLOW, Server, serve


@dataclass
class Rig:
    """A store behind a proxy, and the same one without it."""

    server: Server
    proxy: FaultProxy
    address: Address
    store: ObjectStore
    direct: ObjectStore

    def another(self) -> ObjectStore:
        return open_store(self.address, self.server.connect(url=self.proxy.url))


def open_store(address, connection):
    return ObjectStore(address, lambda _: connection)


@pytest.fixture(params=SOME_SLOW)
def server(request):
    return serve(request.param)


@pytest.fixture
def rig(server):
    address = Address(server.bucket, uuid4().hex)
    with fault_proxy(server.url) as proxy:
        yield Rig(
            server,
            proxy,
            address,
            open_store(address, server.connect(url=proxy.url)),
            open_store(address, server.connect()),
        )


FAULTS = {
    "busy": lambda: every(3, BUSY),
    "cut": lambda: every(3, CUT),
    "lost": lambda: every(3, LOSE),
    "slow": lambda: every(5, SLOW),
}


@pytest.fixture(params=FAULTS)
def fault(request):
    return FAULTS[request.param]


def test_every_operation_does_what_it_promises_while_requests_fail(rig, fault):
    rig.proxy.fault = fault()
    store = rig.store
    for number in range(5):
        key, data = f"a/{number}", b"%d" % number
        assert store.create(key, data)
        assert not store.create(key, b"other")
        assert store.get(key) == data
        store.put(key, data * 10)
        assert store.get(key, 2, 5) == data * 3
        assert store.stat(key).size == 10
    store.copy("a/0", "b/0")
    assert store.list("") == [*(f"a/{number}" for number in range(5)), "b/0"]
    store.delete([f"a/{number}" for number in range(5)])
    assert store.list("") == ["b/0"]
    assert rig.proxy.counts.total() > 20


def test_an_upload_is_complete_while_requests_fail(rig, fault):
    rig.proxy.fault = fault()
    store = rig.store
    for number in range(3):
        upload = store.new_upload("a")
        with store.writer("a", upload) as out:
            out.write(b"%d" % number)
        store.revoke("a", upload)
        assert rig.direct.get("a") == b"%d" % number
        with store.writer("b") as out:
            out.write(b"%d" % number)
        assert rig.direct.get("b") == b"%d" % number


def test_of_racing_writers_one_creates_each_key_and_knows_it(rig):
    rig.proxy.fault = every(4, LOSE, of="PUT")
    keys = [f"log/{number:03}" for number in range(15)]

    def create_all(writer):
        store = rig.another()
        return [key for key in keys if store.create(key, b"%d" % writer)]

    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(create_all, range(3)))
    assert Counter(key for one in won for key in one) == dict.fromkeys(keys, 1)
    for writer, one in enumerate(won):
        for key in one:
            assert rig.direct.get(key) == b"%d" % writer


@pytest.mark.parametrize("server", ["moto"], indirect=True)  # the others check the signature, which covers the header
def test_a_storage_that_ignores_conditions_is_refused_by_name(rig):
    rig.proxy.dropped = {"if-none-match"}
    with pytest.raises(RunFolderError, match=f"^{re.escape(str(rig.address))} cannot hold run folders: it replaced"):
        probe_store(rig.store, "a/")
    assert rig.direct.list("") == []


def test_a_poll_is_one_request(rig):
    assert rig.store.get("a/1") is None
    rig.direct.put("a/1", b"one")
    assert rig.store.get("a/1") == b"one"
    assert rig.store.create("a/2", b"two")
    assert rig.proxy.counts == {"GET": 2, "PUT": 1}


@pytest.mark.parametrize("server", ["moto"], indirect=True)
def test_a_request_that_hangs_ends_within_five_seconds_and_is_repeated(rig):
    rig.direct.put("a", b"one")
    rig.proxy.slow_s = 6
    faults = iter([SLOW])
    rig.proxy.fault = lambda _method, _path: next(faults, None)
    begun = time.monotonic()
    assert rig.store.get("a") == b"one"
    assert time.monotonic() - begun < 6


def test_large_objects_come_whole_and_in_parts(server):
    store = open_store(Address(server.bucket, uuid4().hex), server.connect())
    data = bytes(range(256)) * 20_000
    store.put("a", data)
    assert store.get("a") == data
    assert store.get("a", 3_000_000) == data[3_000_000:]
    assert store.get("a", 1, 2_000_000) == data[1:2_000_000]
    assert store.create("b", data)
    assert not store.create("b", data + b"x")
    assert store.create("b", data)


def test_a_stream_of_several_parts_is_whole(server, monkeypatch):
    monkeypatch.setattr("airflow_prs.store.part_stream.PART_BYTES", 5 << 20)
    store = open_store(Address(server.bucket, uuid4().hex), server.connect())
    pieces = [bytes([number]) * (3 << 20) for number in range(7)]
    upload = store.new_upload("a")
    with store.writer("a", upload) as out:
        out.writelines(pieces)
        assert out.tell() == 21 << 20
    assert store.get("a") == b"".join(pieces)


def test_a_stream_holds_a_parquet_file(server):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"a": range(1000)})
    store = open_store(Address(server.bucket, uuid4().hex), server.connect())
    with store.writer("a.parquet") as out, pq.ParquetWriter(out, table.schema) as writer:
        writer.write_table(table)
    assert pq.read_table(pa.BufferReader(store.get("a.parquet"))).equals(table)


def test_an_upload_that_fails_leaves_what_was_there_and_its_version(server):
    store = open_store(Address(server.bucket, uuid4().hex), server.connect())
    store.put("a", b"earlier")
    before, upload = store.stat("a"), store.new_upload("a")
    with pytest.raises(ZeroDivisionError), store.writer("a", upload):
        _ = 1 / 0
    store.revoke("a", upload)
    assert store.stat("a") == before


def test_an_upload_that_another_process_revokes_does_not_replace_what_was_there(server):
    address = Address(server.bucket, uuid4().hex)
    store, other = (open_store(address, server.connect()) for _ in range(2))
    store.put("a", b"earlier")
    upload = store.new_upload("a")

    def write():
        with store.writer("a", upload) as out:
            out.write(b"later")
            other.revoke("a", upload)

    with pytest.raises(SupersededError):
        write()
    assert store.get("a") == b"earlier"


# Errors


def operations(store):
    def write():
        with store.writer("a") as out:
            out.write(b"one")

    return {
        "create": lambda: store.create("a", b"one"),
        "put": lambda: store.put("a", b"one"),
        "get": lambda: store.get("a"),
        "range": lambda: store.get("a", 1, 3),
        "list": lambda: store.list(""),
        "delete": lambda: store.delete(["a"]),
        "copy": lambda: store.copy("a", "b"),
        "writer": write,
    }


@pytest.mark.parametrize("operation", operations(None))
def test_a_missing_bucket_is_an_error_that_says_so(server, operation):
    bucket = Bucket(server.kind, "not-there", "my_conn")
    store = open_store(Address(bucket, "runs/1"), server.connect(bucket))
    with pytest.raises(StorageError, match=rf"^{bucket}: there is no (bucket|container) not-there\. Create it"):
        operations(store)[operation]()


@pytest.mark.parametrize("operation", [*operations(None), "stat"])
@pytest.mark.parametrize("server", ["seaweed", "azurite"], indirect=True)  # moto accepts any signature
def test_refused_credentials_are_an_error_that_holds_no_secret(server, operation):
    secret = "bm90IHRoZSByaWdodCBvbmU="
    bucket = Bucket(server.kind, server.bucket.name, "my_conn")
    store = open_store(Address(bucket, "runs/1"), server.connect(bucket, secret=secret))
    act = {**operations(store), "stat": lambda: store.stat("a")}[operation]
    with pytest.raises(StorageError, match=rf"^{bucket}/runs/1.*: access denied .*connection my_conn") as raised:
        act()
    assert secret not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert ".)" not in str(raised.value)


def test_a_server_that_cannot_be_reached_is_an_error_that_names_it(monkeypatch):
    server = serve("moto")
    with fault_proxy(server.url) as proxy:
        url = proxy.url
    monkeypatch.setitem(clients._REQUEST_RETRIES, "max_retries", 2)
    store = open_store(Address(server.bucket, "runs"), server.connect(url=url))
    with pytest.raises(StorageError, match=f"^s3://shared/runs/a: object storage failed .*{url}.*onnection refused"):
        store.get("a")


def test_a_process_that_was_forked_after_requests_is_refused_immediately():
    store = open_store(Address(serve("moto").bucket, uuid4().hex), serve("moto").connect())
    store.put("a", b"one")
    child = os.fork()
    if not child:
        status = 1
        try:
            store.get("a")
        except StorageError as error:
            status = 0 if "forked" in str(error) else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get("a") == b"one"


WITHOUT_OBSTORE = """
import sys
sys.modules["obstore"] = sys.modules["obstore.store"] = None
from airflow_prs.object_storage.addresses import Bucket, Kind
from airflow_prs.object_storage.clients import make_connection
from airflow_prs.object_storage.connecting import connect_to, use_connections
from airflow_prs.store import objects
use_connections(lambda bucket: make_connection(bucket, native=None))
connect_to(Bucket(Kind[sys.argv[1]], "shared"))
"""


@pytest.mark.parametrize(("kind", "extra"), [("S3", "s3"), ("AZURE", "azure")])
def test_without_its_client_an_error_says_what_to_install(kind, extra):
    found = subprocess.run([sys.executable, "-c", WITHOUT_OBSTORE, kind], capture_output=True, text=True, check=False)
    assert f"pip install 'airflow-prs[{extra}]'" in found.stderr
