"""Connections to object storage through the hooks of Airflow's providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from airflow_prs.airflow_side.exceptions import AirflowNotFoundException
from airflow_prs.airflow_side.masking import known_secrets_masker
from airflow_prs.errors import StorageError, StorageRefusedError
from airflow_prs.object_storage import ambient
from airflow_prs.object_storage.addresses import Bucket, Kind, is_remote, parse_address
from airflow_prs.object_storage.connecting import Connection, connect_again, use_connections

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection

_TYPES = {Kind.S3: ("aws",), Kind.AZURE: ("wasb", "adls")}


def use_airflow_connections() -> None:
    """Take connections to object storage from Airflow from now on, in this process."""
    use_connections(connect)


def refresh_connection(location: str) -> None:
    """
    Connect again to where a run folder is, in a process that serves many runs: a connection may have been changed.

    Call it off the event loop, in a thread from which Airflow's connections can be read.

    :param location: a local path, for which nothing happens, or an address.
    :raises StorageError: if there is no such connection.
    """
    use_airflow_connections()
    if is_remote(location):
        connect_again(parse_address(location).bucket)


def connect(bucket: Bucket) -> Connection:
    """
    Return a connection to a bucket, with the credentials of its Airflow connection.

    Without a connection in the address they are those of the environment, as in Airflow itself. An Airflow connection
    without credentials means the same. Call it off the event loop: hooks wait for answers of Airflow and of storage.

    :raises StorageError: if the connection does not exist, has another type or fails.
    :raises ImportError: if packages are not installed.
    """
    if bucket.conn_id is None:
        return ambient.connect(bucket)
    _check(bucket, _find(bucket))
    try:
        return _connect_s3(bucket) if bucket.kind is Kind.S3 else _connect_azure(bucket)
    except (ImportError, StorageError):
        raise
    except Exception as error:  # noqa: BLE001 - each hook and credential raises its own
        reason = known_secrets_masker()(f"{type(error).__name__}: {error}")
        raise StorageError(f"{bucket}: the connection {bucket.conn_id!r} cannot be used: {reason}") from None


def _find(bucket: Bucket) -> AirflowConnection:
    # S3Hook itself would go on with other credentials if there is no such connection.
    try:
        return BaseHook.get_connection(str(bucket.conn_id))
    except Exception as error:  # noqa: BLE001 - each secrets backend raises its own
        reason = known_secrets_masker()(f"{type(error).__name__}: {error}")
        # Whatever else a secrets backend raises may be gone soon.
        kind = StorageRefusedError if isinstance(error, AirflowNotFoundException) else StorageError
        raise kind(
            f"{bucket}: Airflow returns no connection {bucket.conn_id!r} ({reason}); create it in Airflow, for example "
            f"under Admin > Connections, or correct the path"
        ) from None


def _check(bucket: Bucket, connection: AirflowConnection) -> None:
    types = _TYPES[bucket.kind]
    if connection.conn_type not in types:
        raise StorageRefusedError(
            f"{bucket}: the connection {bucket.conn_id!r} has the type {connection.conn_type!r}; allowed: "
            f"{' or '.join(map(repr, types))}"
        )


def _connect_s3(bucket: Bucket) -> Connection:
    # Airflow 3.1.0 to 3.3.2: only the provider's hook knows all fields of its connection.
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from airflow_prs.object_storage.s3 import connect_s3

    hook = S3Hook(aws_conn_id=bucket.conn_id)
    session = hook.get_session()
    # Not hook.get_conn(): it has a session of its own, which would assume the role a second time.
    client = session.client(
        "s3",
        endpoint_url=hook.conn_config.get_service_endpoint_url(service_name="s3"),
        config=hook.config,
        verify=hook.verify,
    )
    return connect_s3(bucket, session, client, verify=hook.verify)


def _connect_azure(bucket: Bucket) -> Connection:
    # Airflow 3.1.0 to 3.3.2: as for S3.
    from airflow.providers.microsoft.azure.hooks.wasb import WasbHook

    from airflow_prs.object_storage.azure import connect_azure

    service = WasbHook(wasb_conn_id=str(bucket.conn_id)).get_conn()
    _mask(service)
    if "sig=" in urlsplit(service.url).path:
        raise StorageRefusedError(
            f"{bucket}: the sas_token of the connection {bucket.conn_id!r} must begin with '?' for this version of "
            "apache-airflow-providers-microsoft-azure; add it, or install a newer version"
        )
    return connect_azure(bucket, service)


def _mask(service: Any) -> None:
    """Mask what Airflow does not know as a secret: keys inside a connection string, and signatures."""
    signed = getattr(service.credential, "signature", urlsplit(service.url).query)
    for secret in (getattr(service.credential, "account_key", ""), signed, *parse_qs(signed).get("sig", ())):
        if secret:
            mask_secret(secret)
