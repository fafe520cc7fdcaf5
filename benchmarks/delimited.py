"""Compare plan over a large delimited file with quoted fields, which reads the file once, with counting its lines."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import DelimitedSource, MiniBatchSize
from airflow_prs.inputs.text.delimited import cut_delimited_files
from benchmarks.comparing import Comparison

COLUMNS = ("name", "price", "quantity", "flag", "note")
SIZE_BYTES = 2 << 30


@functools.cache
def quoted_file(size_bytes: int) -> Path:
    """Write rows with quoted fields and a line break in every tenth row. The file is removed when Python ends."""
    folder = tempfile.mkdtemp(prefix="airflow_prs-bench-")
    atexit.register(shutil.rmtree, folder)
    path = Path(folder, "rows.csv")
    breaks = [" ", "\n"]
    rows = [
        f'"name, {n:05d}",{n / 7:.6f},{n if n % 7 else ""},{n % 2 == 0},"a note{breaks[n % 10 == 0]}of {n}"\n'
        for n in range(20_000)
    ]
    block = "".join(rows).encode()
    with path.open("wb") as file:
        file.write(",".join(COLUMNS).encode() + b"\n")
        for _ in range(-(-size_bytes // len(block))):
            file.write(block)
    return path


def plan_s(path: Path, dtypes: dict[str, str]) -> float:
    """Return the seconds that it takes to cut the file into mini-batches of 1 MiB."""
    began = time.monotonic()
    source = DelimitedSource(name="rows", paths=(), dtypes=dtypes)
    cut_delimited_files(source, Listing.of([str(path)]), MiniBatchSize(1 << 20, "bytes"))
    return time.monotonic() - began


def count_lines_s(path: Path) -> float:
    """Return the seconds that ``wc -l`` takes."""
    began = time.monotonic()
    subprocess.run(["wc", "-l", str(path)], check=True, capture_output=True)
    return time.monotonic() - began


def delimited(scale: float) -> list[Comparison]:
    size = int(SIZE_BYTES * scale)
    return [
        Comparison(
            f"plan over {size / 2**30:.3g} GiB of CSV with quoted fields, {found}",
            "`wc -l`, warm",
            4,
            lambda dtypes=dtypes: plan_s(quoted_file(size), dtypes),
            lambda: count_lines_s(quoted_file(size)),
            reason=(
                "`wc` searches for one byte, but plan searches for quotes, separators and line breaks"
                if dtypes
                else "To find types, plan reads every value, and Arrow alone takes as long to read the file"
            ),
            is_given_up=True,
        )
        for found, dtypes in (("types given", dict.fromkeys(COLUMNS, "str")), ("types found", {}))
    ]
