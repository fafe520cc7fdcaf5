"""The formats of the result, and the writer for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Relative, because this package has another name in a worker process.
from . import layout, rows, rows_delimited, rows_json  # noqa: TID252

CSV = {"sep": ",", "header": True, "index": False}
"""Arguments of to_csv for ``csv``; parallel_run_step.settings.json may replace each."""


def make_writer(wanted: Mapping[str, Any] | None, ask: layout.Ask) -> Callable[[Any, Callable[[bytes], Any]], None]:
    """
    Return the writer for a format: it takes elements, and a function that takes bytes.

    :param wanted: ``format`` and ``to_csv`` (arguments of to_csv, or None); None: text as Azure ML writes it.
    :param ask: asks for the layout that all mini-batches share.
    """
    if wanted is None:
        return rows.write_elements
    name = wanted["format"]
    if name == "jsonl":
        return rows_json.write_json_lines
    if name == "parquet":
        from . import rows_parquet  # noqa: TID252 - it imports pyarrow

        return rows_parquet.ParquetRows(layout.Layout(ask))
    if name == "text" and wanted["to_csv"] is None:
        return rows.write_elements
    # In text missing arguments have the defaults of pandas, as in Azure ML, except index, which is False.
    options = {**(CSV if name == "csv" else {"index": False}), **(wanted["to_csv"] or {})}
    common = layout.Layout(ask) if name == "csv" or options.get("header", True) is not False else None
    return rows_delimited.DelimitedRows(options, common, takes_lines=name == "text")
