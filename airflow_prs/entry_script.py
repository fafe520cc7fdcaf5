"""EntryScript under the name that scripts import: ``from airflow_prs.entry_script import EntryScript``."""

from __future__ import annotations

from airflow_prs.worker.entry_script import EntryScript

__all__ = ["EntryScript"]
