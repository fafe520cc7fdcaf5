"""The line in which each row of a piece of a text file begins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from airflow_prs.inputs.text.scanning import Scanner
from airflow_prs.records import InputKind, InputSpec, Piece
from airflow_prs.worker.reading.json_table import is_blank
from airflow_prs.worker.reading.lines import breaks_in, line_feeds_in


def lines_of_rows(spec: InputSpec, piece: Piece) -> list[int] | None:
    """
    Return the number of the first line of each row of a piece; None: not text, or an entire file.

    :param spec: the input of the piece, whose file is on this machine.
    """
    if piece.line is None or piece.begin is None or piece.end is None:
        return None
    with Path(piece.path).open("rb") as file:
        file.seek(piece.begin)
        data = file.read(piece.end - piece.begin)
    is_json = spec.kind is InputKind.JSON_LINES
    starts = _json_starts(data) if is_json else _delimited_starts(data, spec)
    count = line_feeds_in if is_json else breaks_in
    blocks = [data[begin:end] for begin, end in itertools.pairwise([0, *starts])]
    before = [b"", *(block[-1:] for block in blocks)]
    breaks = itertools.accumulate(count(block, last) for block, last in zip(blocks, before, strict=False))
    return [piece.line + number for number in breaks]


def _json_starts(data: bytes) -> Sequence[int]:
    lines = data.split(b"\n")
    begins = itertools.accumulate((len(line) + 1 for line in lines), initial=0)
    return [begin for begin, line in zip(begins, lines, strict=False) if not is_blank(line.decode("utf-8", "replace"))]


def _delimited_starts(data: bytes, spec: InputSpec) -> Sequence[int]:
    starts, _ = Scanner(spec.options.get("separator", ","), spec.options.get("comment"), 0).scan(data)
    found: list[int] = starts.tolist()
    return found
