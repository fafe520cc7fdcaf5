"""
What the payloads of records hold: outcomes as arrays, failed tries as lines of JSON.

An outcome is a fixed number of bytes. A failed try may have a long traceback, so only its place is kept in memory.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from airflow_prs.errors import DamagedError
from airflow_prs.records import FailedTry, Outcome, TryStatus
from airflow_prs.run_folder.json_records import JsonRecords

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FAILED_TRY: JsonRecords[FailedTry] = JsonRecords(FailedTry)

_OUTCOME = [
    ("index", "<i8"),
    ("items", "<i8"),
    ("succeeded", "<i8"),
    ("returned", "<i8"),
    ("offset", "<i8"),
    ("length", "<i8"),
    ("started", "<f8"),
    ("duration_s", "<f4"),
    ("run_s", "<f4"),
    ("cpu_s", "<f4"),
    ("crc", "<u4"),
    ("process", "<u4"),
    ("writer", "<u4"),
    ("tries", "<u2"),
    ("status", "<u2"),
]
_PLACE = [("index", "<i8"), ("log", "<i8"), ("record", "<i8"), ("begin", "<i8"), ("size", "<i8")]
_FIELDS = operator.attrgetter(*(name for name, _ in _OUTCOME if name != "writer"))


def outcome_type() -> np.dtype[Any]:
    """
    Return the type of a stored outcome: fields of records.Outcome, little-endian, without gaps.

    ``writer`` is a position in the writers of the record.
    """
    import numpy as np

    return np.dtype(_OUTCOME)


def place_type() -> np.dtype[Any]:
    """
    Return the type of the place of a failed try: mini-batch, log, record, first byte and size in the record's object.

    ``log`` is the number of a loan, or -1 for the shard's own log.
    """
    import numpy as np

    return np.dtype(_PLACE)


def pack_outcomes(outcomes: Iterable[Outcome], writer: int) -> npt.NDArray[Any]:
    """
    Return outcomes as an array, sorted by index.

    :param writer: position of their writer.
    """
    import numpy as np

    kind = np.dtype([(name, form) for name, form in _OUTCOME if name != "writer"])
    # The first field is the index, so sorting the records puts them in the order of the index.
    packed = np.array(sorted(map(_FIELDS, outcomes)), kind)
    stored = np.empty(len(packed), outcome_type())
    for name, _ in _OUTCOME:
        stored[name] = writer if name == "writer" else packed[name]
    return stored


def pack_tries(failed_tries: Iterable[FailedTry]) -> list[bytes]:
    """Return a line for each failed try."""
    return [_FAILED_TRY.dump_json(failed) + b"\n" for failed in failed_tries]


def parse_try(line: bytes) -> FailedTry:
    """
    Return a failed try.

    :raises DamagedError: if the line is damaged.
    """
    try:
        return _FAILED_TRY.validate_json(line)
    except ValidationError:
        raise DamagedError(f"a failed try is damaged: {line[:80]!r}. Clear the plan task to start over.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """
    Outcomes, and the places of failed tries in the order in which they were committed.

    :param outcomes: of outcome_type().
    :param tries: of place_type().
    """

    outcomes: npt.NDArray[Any]
    tries: npt.NDArray[Any]

    @property
    def size(self) -> int:
        """Number of outcomes and failed tries."""
        return len(self.outcomes) + len(self.tries)

    def without_failures(self) -> Content:
        """Return the outcomes of mini-batches that succeeded, and what is known of the items that they left out."""
        import numpy as np

        outcomes = self.outcomes[self.outcomes["status"] == TryStatus.RUN_DONE]
        incomplete = outcomes["index"][outcomes["succeeded"] < outcomes["items"]]
        # The tries of items that failed are in the same record as the outcome, so also in the same part.
        tries = self.tries[np.isin(self.tries["index"], incomplete)] if len(incomplete) else self.tries[:0]
        return Content(outcomes=outcomes, tries=tries)


def no_content() -> Content:
    """Return a content without outcomes and tries."""
    import numpy as np

    return Content(outcomes=np.empty(0, outcome_type()), tries=np.empty(0, place_type()))


def unpack(payload: bytes, outcomes: int, *, log: int, record: int, offset: int) -> Content:
    """
    Return what a record's payload holds.

    :param outcomes: number of outcomes.
    :param log: see place_type().
    :param record: number of the record.
    :param offset: where the payload begins in the record's object.
    :raises DamagedError: if it is damaged.
    """
    import numpy as np

    end = outcomes * outcome_type().itemsize
    places = [(index, log, record, offset + begin, size) for index, begin, size in _lines(payload, end)]
    return Content(
        outcomes=np.frombuffer(payload, outcome_type(), outcomes) if outcomes else np.empty(0, outcome_type()),
        tries=np.array(places, place_type()),
    )


def _lines(payload: bytes, begin: int) -> Iterator[tuple[int, int, int]]:
    while begin < len(payload):
        end = payload.find(b"\n", begin) + 1 or len(payload)
        line = payload[begin:end]
        try:
            # `index` is the first field of FailedTry; parsing the others would take most of the time.
            yield int(line[line.index(b":") + 1 : line.index(b",")]), begin, len(line)
        except ValueError:
            raise DamagedError(f"a failed try is damaged: {line[:80]!r}. Clear the plan task to start over.") from None
        begin = end


def join(parts: Iterable[Content]) -> Content:
    """Return several contents as one."""
    import numpy as np

    parts = list(parts)
    nothing = no_content()
    return Content(
        outcomes=np.concatenate([nothing.outcomes, *(part.outcomes for part in parts)]),
        tries=np.concatenate([nothing.tries, *(part.tries for part in parts)]),
    )
