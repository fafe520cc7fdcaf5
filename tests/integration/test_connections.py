"""Connections of Airflow and credentials of the environment, used with real servers through Airflow's own hooks."""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
import os
import ssl
import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import pytest

from airflow_prs.airflow_side import object_storage
from airflow_prs.airflow_side.object_storage import refresh_connection, use_airflow_connections
from airflow_prs.config.dataset_paths import as_text
from airflow_prs.config.datasets import FileDataset
from airflow_prs.errors import StorageError
from airflow_prs.object_storage import ambient, clients, connecting, s3
from airflow_prs.object_storage.addresses import Address, Bucket, Kind, parse_address
from airflow_prs.object_storage.connecting import Connection, connect_to, use_connections
from airflow_prs.object_storage.requests import asking
from airflow_prs.operators.declaration import output_problems
from airflow_prs.store.objects import ObjectStore
from tests.airflow_services import wait_until
from tests.object_servers import ACCESS_KEY, AZURE_ACCOUNT, AZURE_KEY, SECRET_KEY, serve, signature

AMBIENT = ("AWS_", "AZURE_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY")
WRONG_KEY = "d3Jvbmc" + AZURE_KEY[7:]


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(AMBIENT)]:
        monkeypatch.delenv(name)
    # No profile of this machine's user, and no role of the machine.
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(connecting, "_connect", connecting._refuse)
    monkeypatch.setattr(connecting, "_connections", {})


@pytest.fixture
def connection(monkeypatch):
    """Make a connection of Airflow, and return its id."""

    def make(conn_type: str, **values) -> str:
        conn_id = f"c{uuid4().hex[:8]}"
        value = {"conn_type": conn_type, **values}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        return conn_id

    return make


def aws(connection, server, login=ACCESS_KEY, password=SECRET_KEY, **extra) -> Bucket:
    extra = {"endpoint_url": server.url, "region_name": "us-east-1", **extra}
    return Bucket(Kind.S3, server.bucket.name, connection("aws", login=login, password=password, extra=extra))


def wasb(connection, server, **values) -> Bucket:
    values = {"host": f"{server.url}/{AZURE_ACCOUNT}", **values}
    return Bucket(Kind.AZURE, server.bucket.name, connection("wasb", **values))


def store_and_read(used: Connection) -> bytes:
    """Write through one client and read through the other."""
    key, content = f"dir/a b%{uuid4().hex}", uuid4().bytes
    with asking(used.bucket, key):
        used.objects.put(key, content)
        read = bytes(used.bulk.get(key).bytes())
    assert read == content
    return native_read(used, key)


def native_read(used: Connection, key: str) -> bytes:
    client = used.native()
    if used.bucket.kind is Kind.S3:
        return client.get_object(Bucket=used.bucket.name, Key=key)["Body"].read()
    return client.download_blob(key).readall()


@pytest.fixture
def weed():
    return serve("seaweed")


@pytest.fixture
def moto():
    return serve("moto")


@pytest.fixture
def azurite():
    return serve("azurite")


def test_keys_of_a_connection_are_used_for_s3(connection, weed):
    bucket = aws(connection, weed)
    use_airflow_connections()
    used = connect_to(bucket)
    store_and_read(used)
    assert connect_to(parse_address(f"{bucket}/a").bucket) is used


def test_the_connection_counts_and_not_the_environment(connection, weed, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_REGION": "eu-west-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_BUCKET": "other",
    }.items():
        monkeypatch.setenv(name, value)
    store_and_read(object_storage.connect(aws(connection, weed)))


def test_an_endpoint_for_s3_alone_is_used(connection, weed):
    endpoints = {"endpoint_url": "http://127.0.0.1:1", "service_config": {"s3": {"endpoint_url": weed.url}}}
    store_and_read(object_storage.connect(aws(connection, weed, **endpoints)))


def test_a_wrong_key_is_an_error_that_names_the_connection_and_no_key(connection, weed):
    bucket = aws(connection, weed, password="hidden-secret")
    with pytest.raises(StorageError, match=f"of the connection {bucket.conn_id}") as caught:
        store_and_read(object_storage.connect(bucket))
    assert "hidden-secret" not in str(caught.value)


def test_a_connection_that_does_not_exist_is_an_error_and_no_other_credentials_are_used(weed, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", weed.url)
    with pytest.raises(StorageError, match=r"Airflow returns no connection 'missing' .*; create it in Airflow"):
        object_storage.connect(Bucket(Kind.S3, weed.bucket.name, "missing"))
    with pytest.raises(StorageError, match="Airflow returns no connection 'missing'"):
        object_storage.connect(Bucket(Kind.AZURE, "in", "missing"))
    store_and_read(object_storage.connect(weed.bucket))


@pytest.mark.parametrize(
    ("kind", "conn_type", "allowed"), [(Kind.S3, "wasb", "'aws'"), (Kind.AZURE, "aws", "'wasb' or 'adls'")]
)
def test_a_connection_of_another_type_is_an_error(connection, kind, conn_type, allowed):
    conn_id = connection(conn_type, login="a", password="hidden")
    with pytest.raises(StorageError, match=f"'{conn_id}' has the type '{conn_type}'; allowed: {allowed}") as caught:
        object_storage.connect(Bucket(kind, "in", conn_id))
    assert "hidden" not in str(caught.value)


def test_a_connection_without_credentials_means_those_of_the_environment(connection, weed, monkeypatch):
    bucket = aws(connection, weed, login=None, password=None)
    with pytest.raises(StorageError, match="no credentials were found; put them into the Airflow connection"):
        object_storage.connect(bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    store_and_read(object_storage.connect(bucket))


def test_a_connection_with_wrong_options_is_an_error_that_names_it(connection, weed):
    bucket = aws(connection, weed, config_kwargs={"no_such_option": 1})
    with pytest.raises(
        StorageError, match=f"connection '{bucket.conn_id}' cannot be used: TypeError: .*no_such_option"
    ):
        object_storage.connect(bucket)


def test_objects_are_deleted_with_a_signature(connection, azurite, monkeypatch):
    # Azurite answers 500 to a request that deletes several, which is repeated.
    monkeypatch.setitem(clients._REQUEST_RETRIES, "max_retries", 0)
    used = object_storage.connect(wasb(connection, azurite, extra={"sas_token": f"?{signature(azurite)}"}))
    store = ObjectStore(Address(azurite.bucket, uuid4().hex), lambda _: used)
    for some in (["one"], ["one", "two", "three"]):
        for key in some:
            store.put(key, b"x")
        store.delete([*some, "missing"])
        assert store.list("") == []


class Requests(list):
    """What a storage of the test's own is asked."""


@pytest.fixture
def requests_seen():
    """A storage that stores nothing, and the headers of the requests it got."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    seen = Requests()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, dict(self.headers)))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield seen
    server.shutdown()
    server.server_close()
    thread.join()


def put(bucket: Bucket) -> None:
    object_storage.connect(bucket).objects.put("a/b", b"x")


def s3_of(connection, url, **extra) -> Bucket:
    extra = {"endpoint_url": url, "region_name": "eu-west-1", **extra}
    return Bucket(Kind.S3, "bucket", connection("aws", login="LOGIN", password="PASSWORD", extra=extra))


def test_a_session_token_is_sent(connection, requests_seen):
    put(s3_of(connection, requests_seen.url, aws_session_token="TOKEN"))
    ((path, headers),) = requests_seen
    assert path == "/bucket/a/b"
    assert headers["x-amz-security-token"] == "TOKEN"
    assert "Credential=LOGIN/" in headers["authorization"]
    assert "/eu-west-1/s3/" in headers["authorization"]


def test_a_proxy_of_the_connection_is_used(connection, requests_seen):
    put(s3_of(connection, "http://storage.invalid", config_kwargs={"proxies": {"http": requests_seen.url}}))
    assert requests_seen[0][0] == "http://storage.invalid/bucket/a/b"


def test_the_bucket_is_in_the_host_if_the_connection_says_so(connection, requests_seen):
    style = {"addressing_style": "virtual"}
    proxies = {"http": requests_seen.url}
    put(s3_of(connection, "http://storage.invalid", config_kwargs={"s3": style, "proxies": proxies}))
    assert requests_seen[0][0] == "http://bucket.storage.invalid/a/b"


def test_a_public_bucket_is_asked_without_a_signature(connection, requests_seen):
    put(s3_of(connection, requests_seen.url, config_kwargs={"signature_version": "unsigned"}))
    assert "authorization" not in requests_seen[0][1]


def test_certificates_of_a_connections_own_authority_are_accepted(connection, requests_seen, tmp_path):
    with pytest.raises(StorageError, match=r"the certificates in '.*none.pem' cannot be read"):
        put(s3_of(connection, requests_seen.url, verify=str(tmp_path / "none.pem")))
    put(s3_of(connection, requests_seen.url, verify=ssl.get_default_verify_paths().openssl_cafile or True))


def test_certificates_that_the_environment_names_are_used_unless_the_connection_names_some(
    connection, requests_seen, monkeypatch
):
    monkeypatch.setenv("AWS_CA_BUNDLE", "/none.pem")
    with pytest.raises(StorageError, match=r"the certificates in '/none.pem' cannot be read"):
        put(s3_of(connection, requests_seen.url))
    put(s3_of(connection, requests_seen.url, verify=True))


def role(connection, url, sts, **extra) -> Bucket:
    endpoint = {"sts": {"endpoint_url": sts}}
    return s3_of(connection, url, service_config=endpoint, role_arn="arn:aws:iam::123456789012:role/reader", **extra)


def test_a_role_is_assumed_and_its_credentials_are_refreshed(connection, moto, requests_seen, monkeypatch):
    monkeypatch.setattr(s3, "_LASTS", timedelta(0))
    # The shortest session there is; boto3 replaces it when it has 15 minutes left, so always.
    bucket = role(connection, requests_seen.url, moto.url, assume_role_kwargs={"DurationSeconds": 900})
    used = object_storage.connect(bucket)

    def ids_used():
        used.objects.put("a/b", b"x")
        found = {headers["authorization"].partition("Credential=")[2].partition("/")[0] for _, headers in requests_seen}
        return found if len(found) > 1 else None

    assert "LOGIN" not in wait_until(ids_used, "other credentials", 10, every=0.05)
    assert all(headers["x-amz-security-token"] for _, headers in requests_seen)


def test_a_role_that_cannot_be_assumed_is_an_error_that_names_the_connection(connection, weed):
    fast = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    bucket = role(connection, weed.url, "http://127.0.0.1:1", config_kwargs=fast)
    with pytest.raises(StorageError, match=f"connection '{bucket.conn_id}' cannot be used: EndpointConnectionError"):
        object_storage.connect(bucket)


AZURE = {
    "an account key as the password": lambda server: {"login": AZURE_ACCOUNT, "password": AZURE_KEY},
    "an account key in the extra": lambda server: {"extra": {"account_key": AZURE_KEY}},
    "a shared access key": lambda server: {"extra": {"shared_access_key": AZURE_KEY}},
    "a connection string": lambda server: {
        "extra": {
            "connection_string": f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
            f"BlobEndpoint={server.url}/{AZURE_ACCOUNT};"
        }
    },
    "a signature": lambda server: {"login": AZURE_ACCOUNT, "extra": {"sas_token": f"?{signature(server)}"}},
    "a signature in a connection string": lambda server: {
        "extra": {
            "connection_string": f"BlobEndpoint={server.url}/{AZURE_ACCOUNT};SharedAccessSignature={signature(server)}"
        }
    },
}


@pytest.mark.parametrize("values", AZURE.values(), ids=AZURE)
def test_each_way_to_authenticate_works_with_azure(connection, azurite, values, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", WRONG_KEY)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "other")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    store_and_read(object_storage.connect(wasb(connection, azurite, **values(azurite))))


WRONG = {
    "key": lambda server: {"login": AZURE_ACCOUNT, "password": WRONG_KEY},
    "signature": lambda server: {"extra": {"sas_token": f"?{signature(server, WRONG_KEY)}"}},
}


@pytest.mark.parametrize("values", WRONG.values(), ids=WRONG)
def test_wrong_credentials_of_azure_are_an_error_that_holds_none_of_them(connection, azurite, values):
    given = values(azurite)
    bucket = wasb(connection, azurite, **given)
    with pytest.raises(StorageError, match=f"of the connection {bucket.conn_id}") as caught:
        store_and_read(object_storage.connect(bucket))
    assert_no_secret(str(caught.value), given)


def test_a_signature_without_a_question_mark_is_used_or_refused_with_what_to_do(connection, azurite):
    token = signature(azurite)
    bucket = wasb(connection, azurite, extra={"sas_token": token})
    problem = problem_of(bucket)
    assert not problem or "must begin with '?' for this version of apache-airflow-providers" in problem
    assert token not in problem


def problem_of(bucket: Bucket) -> str:
    try:
        store_and_read(object_storage.connect(bucket))
    except StorageError as error:
        return str(error)
    return ""


def assert_no_secret(text: str, given: dict) -> None:
    secret = given.get("password") or given["extra"]["sas_token"]
    assert secret not in text
    assert "sig=" not in text


def test_no_secret_is_in_a_repr_or_a_log(connection, weed, azurite, caplog):
    caplog.set_level(logging.DEBUG)
    token = signature(azurite)
    buckets = [
        aws(connection, weed, aws_session_token=None),
        wasb(connection, azurite, login=AZURE_ACCOUNT, password=AZURE_KEY),
        wasb(connection, azurite, extra={"sas_token": f"?{token}"}),
    ]
    shown = []
    for bucket in buckets:
        used = object_storage.connect(bucket)
        used.objects.put("logged", b"x")
        shown += [repr(used), str(used), repr(used.objects), repr(used.objects.config)]
    text = "\n".join([*shown, caplog.text])
    for secret in (SECRET_KEY, AZURE_KEY, token, token.rpartition("sig=")[2].partition("&")[0]):
        assert secret not in text


def test_a_client_is_told_from_now_on_what_to_mask(connection, azurite):
    from airflow_prs.airflow_side.masking import known_secrets_masker

    bucket = wasb(connection, azurite, **AZURE["a connection string"](azurite))
    object_storage.connect(bucket)
    assert AZURE_KEY not in known_secrets_masker()(f"the key is {AZURE_KEY}")


def test_the_environment_has_the_credentials_where_there_is_no_airflow(weed, azurite, monkeypatch):
    use_connections(ambient.connect)
    with pytest.raises(StorageError, match="no credentials were found"):
        connect_to(weed.bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", weed.url)
    store_and_read(connect_to(weed.bucket))
    with pytest.raises(StorageError, match="the storage account is not known; allowed: AZURE_STORAGE_ACCOUNT_NAME or"):
        connect_to(azurite.bucket)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "hidden")
    with pytest.raises(StorageError, match="AZURE_STORAGE_CONNECTION_STRING is not a connection string") as caught:
        connect_to(azurite.bucket)
    assert "hidden" not in str(caught.value)
    text = AZURE["a connection string"](azurite)["extra"]["connection_string"]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    store_and_read(connect_to(azurite.bucket))


def test_a_connection_of_airflow_is_refused_where_there_is_no_airflow():
    with pytest.raises(StorageError, match="'my_aws', which only tasks of Airflow can use; leave out 'my_aws@'"):
        ambient.connect(Bucket(Kind.S3, "bucket", "my_aws"))


@pytest.mark.parametrize("missing", ["obstore", "airflow.providers.amazon", "airflow.providers.microsoft.azure"])
def test_packages_that_are_missing_are_named_with_the_extra(connection, monkeypatch, missing):
    kinds = [kind for kind, of in (("s3", "azure"), ("azure", "amazon")) if of not in missing]
    conn_ids = {"s3": connection("aws", login="a", password="b"), "azure": connection("wasb", login="a", password="b")}
    found = builtins.__import__

    def lacks(name, *args, **kwargs):
        if f"{name}.".startswith(f"{missing}."):
            raise ImportError(f"No module named {name!r}")
        return found(name, *args, **kwargs)

    use_airflow_connections()
    monkeypatch.setattr(builtins, "__import__", lacks)
    for extra in kinds:
        bucket = Bucket(Kind.S3 if extra == "s3" else Kind.AZURE, "bucket", conn_ids[extra])
        with pytest.raises(StorageError, match=rf"pip install 'airflow-prs\[{extra}\]'"):
            connect_to(bucket)


def test_a_changed_connection_is_used_after_a_refresh_in_a_thread(connection, weed, monkeypatch):
    bucket = aws(connection, weed, password="wrong")
    monkeypatch.setattr(connecting, "_connect", object_storage.connect)
    before = connect_to(bucket)
    extra = {"endpoint_url": weed.url, "region_name": "us-east-1"}
    value = {"conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{bucket.conn_id.upper()}", json.dumps(value))
    assert connect_to(bucket) is before

    async def refresh():
        await asyncio.to_thread(refresh_connection, f"{bucket}/runs")
        await asyncio.to_thread(refresh_connection, "/local/runs")

    asyncio.run(refresh())
    assert connect_to(bucket) is not before
    store_and_read(connect_to(bucket))


def test_a_path_object_of_airflow_keeps_its_connection():
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath("abfs://my_wasb@in/folder") / "a b%20"
    assert as_text(path) == "abfs://my_wasb@in/folder/a b%20"
    assert FileDataset([path, "/local"]).path == ("abfs://my_wasb@in/folder/a b%20", "/local")
    assert list(output_problems(as_text(path))) == []
    assert as_text(ObjectStoragePath("file:///data/in")) == "/data/in"


def test_nothing_of_object_storage_is_imported_when_a_dag_is_parsed():
    code = (
        "import sys; import airflow_prs; from airflow_prs.operators import parallel_run, plan, mini_batches, merge; "
        "from airflow_prs.sensors import gatekeeper; airflow_prs.FileDataset('s3://my_aws@bucket/in'); "
        "print(sorted({'obstore', 'boto3', 'botocore', 'azure.storage.blob', 's3fs'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "[]"
