"""The formats of the result: which writer makes rows of what run() returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Relative, as this package has another name where it is at work.
from . import layout, rows, rows_delimited, rows_json  # noqa: TID252

CSV = {"sep": ",", "header": True, "index": False}
"""Arguments of to_csv for ``csv``; parallel_run_step.settings.json may replace each."""


def make_writer(wanted: Mapping[str, Any] | None) -> Callable[[Any, Callable[[bytes], Any]], None]:
    """
    Choose the writer.

    :param wanted: ``format``, ``to_csv`` (arguments for it, or None) and ``layout`` (folder of what mini-batches
        have in common); None: the text of the original.
    """
    if wanted is None:
        return rows.write_elements
    name = wanted["format"]
    if name == "jsonl":
        return rows_json.write_json_lines
    if name == "parquet":
        from . import rows_parquet  # noqa: TID252 - as above; it imports pyarrow

        return rows_parquet.ParquetRows(layout.Layout(wanted["layout"]))
    if name == "text" and wanted["to_csv"] is None:
        return rows.write_elements
    # In text what is left out has pandas' own default, as in the original; ours is that index is off.
    options = {**(CSV if name == "csv" else {"index": False}), **(wanted["to_csv"] or {})}
    common = layout.Layout(wanted["layout"]) if name == "csv" or options.get("header", True) is not False else None
    return rows_delimited.DelimitedRows(options, common, takes_lines=name == "text")
