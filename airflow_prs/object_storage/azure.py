"""Clients of Azure Blob Storage, made from what azure.storage.blob knows of the credentials and the endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_prs.object_storage.addresses import Bucket
from airflow_prs.object_storage.clients import make_connection
from airflow_prs.object_storage.connecting import Connection

if TYPE_CHECKING:
    from obstore.store import AzureCredential


def connect_azure(bucket: Bucket, service: Any) -> Connection:
    """
    Return a connection to a container.

    :param service: BlobServiceClient, which has the endpoint, and an account key, a shared access signature, an
        identity, or nothing if everybody may read the container.
    """
    url = urlsplit(service.url)
    endpoint = f"{url.scheme}://{url.netloc}{url.path}".rstrip("/")
    credentials = _credentials(service.credential, url.query)
    # Each value is set, since obstore takes those that are not from environment variables.
    return make_connection(
        bucket,
        native=lambda: service.get_container_client(bucket.name),
        account_name=service.account_name or url.netloc.partition(".")[0],
        endpoint=endpoint,
        use_emulator=False,
        skip_signature=credentials is None,
        credential_provider=credentials,
    )


def _credentials(credential: Any, query: str) -> Callable[[], AzureCredential] | None:
    """Return what returns the credentials; they are in a function, since obstore pickles and shows its options."""
    if hasattr(credential, "get_token"):
        from obstore.auth.azure import AzureCredentialProvider

        return AzureCredentialProvider(credential)
    if hasattr(credential, "account_key"):
        return lambda: {"access_key": credential.account_key, "expires_at": None}
    if hasattr(credential, "signature"):
        return lambda: {"sas_token": credential.signature.lstrip("?"), "expires_at": None}
    if query:
        return lambda: {"sas_token": query, "expires_at": None}
    return None
