"""Write the tables of measurements in docs/. Each table is between two comments."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def replace_table(name: str, lines: list[str], page: str = "benchmarks.md") -> None:
    """
    Replace a table, and the line that states where and when it was measured.

    :param name: name in the comments ``<!-- <name> -->`` and ``<!-- /<name> -->`` around the table.
    :param page: name of the page in docs/.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    table = "\n".join(lines)
    path.write_text(f"{before}{begin}{table}\n\n{_where_and_when()}\n{end}{after}", encoding="utf-8")


def _where_and_when() -> str:
    day = datetime.now(timezone.utc).date().isoformat()
    return f"Measured on {day} with {os.cpu_count()} cores, Python {platform.python_version()}, Linux."
