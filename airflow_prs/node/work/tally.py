"""A shard's counts, updated with each mini-batch."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_prs.records import Outcome, Progress


@dataclass(slots=True)
class Tally:
    """
    Counts of a shard: those that the attempt took over, and what was counted since.

    :param base: the counts that the attempt took over.
    :param failing: indices of mini-batches that failed a try and will be tried again.
    """

    base: Progress
    failing: set[int]
    handed_out: int = 0
    succeeded: int = 0
    failed: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    elements: int = 0
    output_bytes: int = 0

    def count_handed_out(self, try_number: int) -> None:
        """Count a mini-batch as handed out; its retries are not counted."""
        self.handed_out += try_number == 1

    def count_given_back(self, try_number: int) -> None:
        """Undo count_handed_out() for a mini-batch that was not tried."""
        self.handed_out -= try_number == 1

    def count_failed_try(self, index: int) -> None:
        """Count a mini-batch that failed a try and will be tried again."""
        self.failing.add(index)

    def count(self, outcome: Outcome) -> None:
        """Count a mini-batch that succeeded or failed."""
        self.failing.discard(outcome.index)
        if outcome.has_failed:
            self.failed += 1
        else:
            self.succeeded += 1
            self.elements += outcome.returned
            self.output_bytes += outcome.length
        self.items_succeeded += outcome.succeeded
        self.items_failed += outcome.items - outcome.succeeded

    def add(self, progress: Progress) -> None:
        """Add the counts of a loan that has ended."""
        self.base += progress

    @property
    def done(self) -> int:
        """How many mini-batches have an outcome."""
        return self.base.done + self.succeeded + self.failed

    def progress(self) -> Progress:
        """Return the counts."""
        base = self.base
        return Progress(
            total=base.total,
            handed_out=base.handed_out + self.handed_out,
            succeeded=base.succeeded + self.succeeded,
            failed=base.failed + self.failed,
            failing=len(self.failing),
            items_total=base.items_total,
            items_succeeded=base.items_succeeded + self.items_succeeded,
            items_failed=base.items_failed + self.items_failed,
            elements=base.elements + self.elements,
            output_bytes=base.output_bytes + self.output_bytes,
        )
