"""Run the command line: ``python -m airflow_prs``, the same as ``airflow-prs``."""

from __future__ import annotations

import sys

from airflow_prs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
