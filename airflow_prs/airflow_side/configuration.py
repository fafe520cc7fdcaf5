"""Airflow's configuration."""

from __future__ import annotations

# Airflow 3.1.0 to 3.3.2: airflow.sdk.conf is missing in 3.1, and where [core] fernet_key is not set it returns the text
# "{FERNET_KEY}", with which environment variables would be hashed with a key that everybody knows.
from airflow.configuration import conf

__all__ = ["conf"]
