"""Inputs and results as OpenLineage names them, for Airflow's OpenLineage provider."""

from __future__ import annotations

import os
from collections.abc import Iterable
from glob import has_magic
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_prs.errors import PrsError
from airflow_prs.object_storage.addresses import Kind, is_remote, parse_address
from airflow_prs.object_storage.connecting import connect_to

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

_KEY = "lineage"
_MOST = 1000
"""Paths of inputs that are named; an event has an entry for each."""


class LineageName(NamedTuple):
    """The name of a file or folder in OpenLineage, without the id of a connection."""

    namespace: str
    name: str


def is_lineage_wanted() -> bool:
    """Whether Airflow's OpenLineage provider is installed."""
    return find_spec("airflow.providers.openlineage") is not None


def leave_inputs(ti: RuntimeTaskInstanceProtocol, paths: Iterable[str], base: str) -> None:
    """
    Push the names of a run's inputs, which merge needs.

    :param base: folder that relative paths start from.
    """
    if is_lineage_wanted():
        ti.xcom_push(_KEY, name_inputs(paths, base))


def left_inputs(ti: RuntimeTaskInstanceProtocol, plan_task_id: str) -> list[LineageName]:
    """Return the names that plan has left."""
    if not is_lineage_wanted():
        return []
    found: Any = ti.xcom_pull(plan_task_id, key=_KEY, map_indexes=None)
    return [LineageName(*each) for each in found or ()]


def name_inputs(paths: Iterable[str], base: str) -> list[LineageName]:
    """Return the names of at most 1,000 inputs; of a pattern, the folder that it starts from."""
    tops = dict.fromkeys(_top_of(path if is_remote(path) else os.path.join(base, path)) for path in paths)  # noqa: PTH118
    return [name for path in list(tops)[:_MOST] if (name := name_of(path)) is not None]


def name_of(path: str) -> LineageName | None:
    """Return the name of an absolute path or an address; None: the storage account is not known."""
    if not is_remote(path):
        return LineageName("file", os.path.normpath(path))
    address = parse_address(path)
    if address.bucket.kind is Kind.S3:
        return LineageName(f"s3://{address.bucket.name}", address.key or "/")
    try:
        host = urlsplit(connect_to(address.bucket).native().url).hostname or ""
    except (PrsError, ImportError):
        return None
    return LineageName(f"abfss://{address.bucket.name}@{host.replace('.blob.', '.dfs.')}", address.key or "/")


def to_openlineage(inputs: Iterable[LineageName], outputs: Iterable[LineageName]) -> Any:
    """Return what the provider expects of an operator; None: it is not installed."""
    if not is_lineage_wanted():
        return None
    # The provider 2.20.3 with openlineage-python 1.54, under Airflow 3.3.2.
    make = import_module("openlineage.client.event_v2").Dataset
    lineage = import_module("airflow.providers.openlineage.extractors").OperatorLineage
    return lineage(inputs=[make(*name) for name in inputs], outputs=[make(*name) for name in outputs])


def _top_of(path: str) -> str:
    # The scheme, the bucket and the root have no wildcards.
    parts = path.rstrip("/").split("/")
    first = next((place for place, part in enumerate(parts) if has_magic(part)), len(parts))
    return "/".join(parts[:first]) or "/"
