"""The configuration that was in force, and the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_prs.run_folder.names import FAILED_ITEMS, NODE_SUMMARY, PROCESS_SUMMARY, PROCESSED, REPORT

if TYPE_CHECKING:
    from airflow_prs.live.snapshot import Snapshot
    from airflow_prs.live.states import Phase
    from airflow_prs.run_folder.folder import RunFolder
    from airflow_prs.settings import RunSettings

_REPORTS = (REPORT, PROCESSED, FAILED_ITEMS, PROCESS_SUMMARY, NODE_SUMMARY)
_TEXT = (".txt", ".csv", ".tsv", ".jsonl")
_HEAD_BYTES = 8192
_HEAD_LINES = 10
_LONGEST_LINE = 500


def describe_configuration(settings: RunSettings, *, has_arguments: bool) -> list[dict[str, Any]]:
    """
    Return the parameters of the run, with the values that a run chose in place of promoted ones.

    :param has_arguments: whether to show the arguments of the script, which nothing masks here.
    """
    promoted = frozenset(settings.promoted)
    plain = {**settings.config.to_json(), "output": settings.output}
    if has_arguments:
        plain["arguments"] = list(settings.arguments)
    return [
        {"name": name, "value": _shown(value), "is_promoted": name in promoted} for name, value in sorted(plain.items())
    ]


def _shown(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else json.dumps(value, ensure_ascii=False)


def describe_result(snapshot: Snapshot, phase: Phase, *, has_rows: bool) -> dict[str, Any] | None:
    """
    Return where the result and the reports are; None: the run has not ended.

    :param has_rows: whether to show the first rows.
    """
    report = phase.report
    if report is None:
        return None
    return {
        "location": report.get("result"),
        "rows": report.get("rows"),
        "reports": [str(snapshot.folder.path / name) for name in _REPORTS] if "mini_batches" in report else [],
        "head": snapshot.head if has_rows else None,
    }


def read_head(folder: RunFolder, location: str | None) -> list[str] | None:
    """
    Return the first lines of a result that is text; None: it is not, it cannot be read here, or there is none.

    :param location: as the report names it.
    """
    if location is None or not location.endswith(_TEXT):
        return None
    try:
        data = folder.read_result(location, _HEAD_BYTES)
    except (OSError, ValueError):
        return None
    return None if data is None else list(islice(_lines(data), _HEAD_LINES))


def _lines(data: bytes) -> Iterator[str]:
    lines = data.decode("utf-8", "replace").splitlines()
    # The last line may be cut.
    for line in lines[:-1] if len(data) == _HEAD_BYTES and len(lines) > 1 else lines:
        yield line[:_LONGEST_LINE]
