"""Clients of S3, made from what boto3 knows of the credentials, the endpoint and the region."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import StorageError, StorageRefusedError
from airflow_prs.object_storage.addresses import Bucket
from airflow_prs.object_storage.clients import make_connection
from airflow_prs.object_storage.connecting import Connection

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_LASTS: timedelta = timedelta(minutes=10)
"""How long credentials from boto3 are used: it replaces temporary ones that expire within 10 minutes."""
_DEFAULT_REGION = "us-east-1"


def connect_s3(bucket: Bucket, session: Any, client: Any, *, verify: Any = None) -> Connection:
    """
    Return a connection to a bucket of S3, or of a storage that has the same interface.

    Temporary credentials, as of an assumed role, are refreshed by the session.

    :param session: session of boto3, which has the credentials.
    :param client: client of boto3 for S3, which has the endpoint, the region and the proxies.
    :param verify: whether certificates are checked, or the path of a file with those of authorities; None: that of
        the variables AWS_CA_BUNDLE and REQUESTS_CA_BUNDLE, as for boto3.
    :raises StorageError: if there are no credentials, or that file cannot be read.
    """
    from botocore import UNSIGNED
    from obstore.auth.boto3 import Boto3CredentialProvider

    config = client.meta.config
    is_signed = config.signature_version is not UNSIGNED
    if is_signed and session.get_credentials() is None:
        raise StorageRefusedError(
            f"{bucket}: no credentials were found; put them into the Airflow connection of the address, or into the "
            "environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the role of the machine"
        )
    endpoint = _endpoint(bucket, client)
    # Each value is set, since obstore takes those that are not from environment variables.
    return make_connection(
        bucket,
        native=lambda: client,
        client_options=_client_options(bucket, endpoint, config.proxies, verify),
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=_region(client),
        virtual_hosted_style_request=endpoint != client.meta.endpoint_url,
        skip_signature=not is_signed,
        conditional_put="etag",
        credential_provider=Boto3CredentialProvider(session, ttl=_LASTS) if is_signed else None,
    )


def _endpoint(bucket: Bucket, client: Any) -> str:
    """Return the endpoint; with the bucket in its host if the connection asks for that."""
    endpoint: str = client.meta.endpoint_url
    if (client.meta.config.s3 or {}).get("addressing_style") != "virtual":
        return endpoint
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket.name}.{host}"


def _region(client: Any) -> str:
    region = client.meta.region_name
    return region if region and region != "aws-global" else _DEFAULT_REGION


def _client_options(bucket: Bucket, endpoint: str, proxies: dict[str, str] | None, verify: Any) -> ClientConfig:
    scheme = endpoint.partition("://")[0]
    options: ClientConfig = {}
    if proxies and scheme in proxies:
        options["proxy_url"] = proxies[scheme]
    if verify is None:
        verify = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    if verify is False:
        options["allow_invalid_certificates"] = True
    elif isinstance(verify, str):
        try:
            options["root_certificate"] = Path(verify).read_bytes()
        except OSError as error:
            raise StorageError(f"{bucket}: the certificates in {verify!r} cannot be read: {error}") from None
    return options
