"""Masks secrets in what worker processes and installers write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from airflow_prs.worker.failures import CUT

SHORTEST = 5
"""In characters; shorter values, such as 1 or true, are too common. As Airflow's ``min_length_masked_secret``."""
MASK = "***"
_SHORTEST_PART = 4
_QUOTES = "'\""


class Masker:
    """
    Replaces secrets by ``***``, also if repr(), JSON or a URL has escaped them.

    Each line of a secret is masked too, because output comes line by line; and so is the part of a secret that is left
    where a worker process has cut a long text.

    :param secrets: in any order; one may be a part of another.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        self._forms = sorted(forms, key=len, reverse=True)
        self._backwards = [form[::-1] for form in self._forms]

    def __call__(self, text: str) -> str:
        """Return a text with its secrets masked."""
        spans = [(start, start + len(form)) for form in self._forms for start in _places(form, text)]
        if self._forms:
            spans += [span for cut in _places(CUT, text) for span in self._parts_beside(cut, text)]
        return _covered(text, sorted(spans)) if spans else text

    def _parts_beside(self, cut: int, text: str) -> Iterator[tuple[int, int]]:
        longest, after = len(self._forms[0]), cut + len(CUT)
        if size := _part_at_end(text[max(0, cut - longest) : cut], self._forms):
            yield cut - size, cut
        if size := _part_at_end(text[after : after + longest][::-1], self._backwards):
            yield after, after + size


def _places(part: str, text: str) -> Iterator[int]:
    start = text.find(part)
    while start >= 0:
        yield start
        start = text.find(part, start + 1)


def _part_at_end(text: str, forms: Iterable[str]) -> int:
    """Return how many characters at the end of a text are the start of a secret."""
    begins = (
        start for form in forms for start in _places(form[:_SHORTEST_PART], text) if form.startswith(text[start:])
    )
    return len(text) - min(begins, default=len(text))


def _covered(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text with a mask in place of each span; the spans are in order and may overlap."""
    kept: list[str] = []
    done = 0
    for start, end in spans:
        if start > done or not kept:
            kept += (text[done:start], MASK)
        done = max(done, end)
    return "".join((*kept, text[done:]))


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms in which a secret and its lines may be written."""
    for text in {secret, " ".join(secret.split()), *(line.strip() for line in secret.splitlines())}:
        yield from (text, quote(text, safe="", errors="replace"), quote(text, errors="replace"))
        yield quote_plus(text, errors="replace")
        yield from (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
        # repr() escapes a quote only if the text has the other kind, too, which may be outside the secret.
        for written in (repr, ascii):
            yield written(text)[1:-1]
            yield written(text + _QUOTES)[1:-4]
        data = text.encode("utf-8", "surrogatepass")
        yield repr(data)[2:-1]
        yield repr(data + _QUOTES.encode())[2:-4]
