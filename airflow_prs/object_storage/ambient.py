"""Connections with the credentials of the environment, for addresses that name no connection."""

from __future__ import annotations

import os
from typing import Any

from airflow_prs.errors import StorageError
from airflow_prs.object_storage.addresses import Bucket, Kind
from airflow_prs.object_storage.connecting import Connection


def connect(bucket: Bucket) -> Connection:
    """
    Return a connection with the credentials of the environment.

    For S3 they are those that boto3 finds: variables such as AWS_ACCESS_KEY_ID, profiles, and the role of the machine.
    For Azure they are AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY,
    AZURE_STORAGE_SAS_TOKEN or else an identity, as adlfs and DefaultAzureCredential read them.

    :raises StorageError: if the address names a connection, or there are no credentials.
    """
    if bucket.conn_id is not None:
        raise StorageError(
            f"{bucket} names the connection {bucket.conn_id!r}, which only tasks of Airflow can use; leave out "
            f"'{bucket.conn_id}@' to use the credentials of the environment"
        )
    return _connect_s3(bucket) if bucket.kind is Kind.S3 else _connect_azure(bucket)


def _connect_s3(bucket: Bucket) -> Connection:
    import boto3
    from botocore.exceptions import BotoCoreError

    from airflow_prs.object_storage.s3 import connect_s3

    try:
        session = boto3.Session()
        return connect_s3(bucket, session, session.client("s3"))
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"{bucket}: {error}") from None


def _connect_azure(bucket: Bucket) -> Connection:
    from airflow_prs.object_storage.azure import connect_azure

    return connect_azure(bucket, _service(bucket))


def _service(bucket: Bucket) -> Any:
    from azure.storage.blob import BlobServiceClient

    text, name = (os.environ.get(f"AZURE_STORAGE_{option}") for option in ("CONNECTION_STRING", "ACCOUNT_NAME"))
    if text:
        try:
            return BlobServiceClient.from_connection_string(text)
        except ValueError:
            raise StorageError(f"{bucket}: AZURE_STORAGE_CONNECTION_STRING is not a connection string") from None
    if not name:
        allowed = (
            "AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING, or an Airflow connection in the address"
        )
        raise StorageError(f"{bucket}: the storage account is not known; allowed: {allowed}")
    return BlobServiceClient(f"https://{name}.blob.core.windows.net", credential=_credential())


def _credential() -> Any:
    from azure.core.credentials import AzureSasCredential

    if key := os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"):
        return key
    if token := os.environ.get("AZURE_STORAGE_SAS_TOKEN"):
        return AzureSasCredential(token)
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()
