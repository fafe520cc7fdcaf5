"""Requests to object storage: whatever goes wrong is an error that names the object and holds no secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from airflow_prs.errors import StorageError, StorageRefusedError
from airflow_prs.object_storage.addresses import Address, Bucket, Kind
from airflow_prs.object_storage.waiting import under_way

_MISSING_BUCKET: Final = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}
_MISSING: Final = {"NoSuchKey", "BlobNotFound", "NotFound", "404"}
_DENIED: Final = {
    "403",
    "AccessDenied",
    "AccountIsDisabled",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NoAuthenticationInformation",
    "SignatureDoesNotMatch",
}

_CHANGED: Final = {"PreconditionFailed", "ConditionalRequestConflict", "ConditionNotMet", "BlobAlreadyExists"}

_CODE: Final = re.compile(r"<Code>(.*?)</Code>", re.DOTALL)
_MESSAGE: Final = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_STATUS: Final = re.compile(r"status code: (\d+)")
_NO_CONTAINER: Final = "The specified container does not exist"
_REQUEST: Final = re.compile(r"performing (\w+) ([^\s?]+)")
_QUERY: Final = re.compile(r"\?[^\s)\"',]*")
"""May hold a signature."""

_OF_STREAM: Final = re.compile(
    r"Generic \w+ error: |Object at location .* not found: |The operation lacked ", re.DOTALL
)
"""How the errors begin that a stream of obstore raises, which are plain OSErrors."""

_CAUSE: Final = re.compile(r'(?<=message: )"[^"]*"|TimedOut')

_SIGNS: Final = ("Debug source:", "Error performing ")
"""What is in the text of every error of obstore."""

_process: dict[str, bool] = {"has_begun": False, "is_fork": False}


def _note_fork() -> None:
    _process["is_fork"] = _process["has_begun"]


os.register_at_fork(after_in_child=_note_fork)


def begin_requests(bucket: Bucket) -> None:
    """
    Note that this process is going to send requests.

    :raises StorageError: if it was forked from one that has sent some: its own would never be answered.
    """
    if _process["is_fork"]:
        raise StorageError(
            f"{bucket} cannot be used here: this process was forked from one that uses object storage. Start it in "
            "another way, for example with multiprocessing's method 'spawn'."
        )
    _process["has_begun"] = True


@contextmanager
def asking(bucket: Bucket, key: str) -> Iterator[None]:
    """
    Do requests about an object, or about all objects below a prefix.

    :raises FileNotFoundError: if it is missing, though its bucket is there.
    :raises FileExistsError: if it was to be created, and exists.
    :raises StorageError: in place of any other error of a client; its ``code`` is that of the server.
    """
    begin_requests(bucket)
    try:
        with under_way(bucket):
            yield
    except Exception as error:
        if not _is_of_client(error):
            raise
        raise _translate(error, Address(bucket, key)) from None


def etag_of(bucket: Bucket, found: Mapping[str, Any]) -> str | None:
    """
    Return the ETag of an object as the header of an answer has it; None: it has none.

    :param found: the object as obstore describes it. In lists of Azure, ETags have no quotation marks.
    """
    etag: str | None = found["e_tag"]
    return f'"{etag}"' if etag and bucket.kind is Kind.AZURE and not etag.endswith('"') else etag


def is_denied(error: StorageError) -> bool:
    """Return whether the storage refuses the credentials, or what they ask for."""
    return error.code in _DENIED


def is_changed(error: OSError) -> bool:
    """Return whether a condition of a request was not met: the object has changed, or is gone."""
    return isinstance(error, FileNotFoundError) or (isinstance(error, StorageError) and error.code in _CHANGED)


def _is_of_client(error: Exception) -> bool:
    if type(error).__module__.partition(".")[0] in {"obstore", "botocore", "boto3", "azure"}:
        return True
    # obstore raises errors of Python, too, those of its streams without their source.
    text = str(error) if type(error) in {OSError, FileNotFoundError, ValueError} else ""
    return any(sign in text for sign in _SIGNS) or _OF_STREAM.match(text) is not None


def _translate(error: Exception, address: Address) -> OSError:
    code, said = _read(error)
    if code in _MISSING_BUCKET:
        what = "bucket" if address.bucket.kind is Kind.S3 else "container"
        problem = f"there is no {what} {address.bucket.name}. Create it, or correct the path."
        return _failure(code, f"{address.bucket}: {problem}", StorageRefusedError)
    if isinstance(error, FileNotFoundError) or code in _MISSING:
        return FileNotFoundError(f"{address} does not exist")
    if type(error).__name__ == "AlreadyExistsError":
        return FileExistsError(f"{address} exists")
    if code in _DENIED or type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
        who = "of this machine" if address.bucket.conn_id is None else f"of the connection {address.bucket.conn_id}"
        # Credentials that have expired are replaced by newer ones.
        kind = StorageError if code == "ExpiredToken" else StorageRefusedError
        problem = f"access denied ({said}). Check the credentials {who}, and what they permit."
        return _failure(code or "403", f"{address}: {problem}", kind)
    if type(error).__name__ == "PreconditionError":
        code = code if code in _CHANGED else "PreconditionFailed"
    return _failure(code, f"{address}: object storage failed ({said})")


def _failure(code: str, message: str, kind: type[StorageError] = StorageError) -> StorageError:
    failure = kind(message)
    failure.code = code
    return failure


def _read(error: Exception) -> tuple[str, str]:
    """Return the code of the server, and what it says in one line."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        code = str(response.get("Error", {}).get("Code", ""))
        return code, _join(code, str(response.get("Error", {}).get("Message", "")))
    if type(error).__module__.startswith("azure"):
        code = getattr(error, "error_code", None) or getattr(response, "status_code", None) or ""
        return str(getattr(code, "value", code)), _join("", _QUERY.sub("", str(getattr(error, "message", error))))
    text, _, details = str(error).partition("\n\nDebug source:")
    found, message = _CODE.search(text), _MESSAGE.search(text)
    if found is not None:
        return found[1], _join(found[1], message[1] if message else "")
    if _NO_CONTAINER in text:  # of many deletions in one request, each has an answer of another form
        return "ContainerNotFound", _NO_CONTAINER
    request, status = _REQUEST.search(text), _STATUS.search(text)
    where = f"{request[1]} {request[2]}: " if request else ""
    reason = _join("", _QUERY.sub("", text.rpartition(" - ")[2]))
    cause = _CAUSE.search(details)
    return status[1] if status else "", where + reason + (f", {cause[0].strip(chr(34)).lower()}" if cause else "")


def _join(code: str, message: str) -> str:
    line = message.strip().partition("\n")[0].rstrip(". ")
    return ": ".join(part for part in (code, line) if part)
