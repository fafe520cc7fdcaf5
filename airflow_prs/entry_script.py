"""The names for entry scripts: ``from airflow_prs.entry_script import EntryScript, NotRetryable, RetryAfter``."""

from __future__ import annotations

from airflow_prs.worker.offered.entry_script import EntryScript, NotRetryable, RetryAfter

__all__ = ["EntryScript", "NotRetryable", "RetryAfter"]
