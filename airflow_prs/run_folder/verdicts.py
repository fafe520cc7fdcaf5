"""Verdicts and the gatekeeper's claims, which determine the verdicts that apply to an attempt."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from airflow_prs.records import Verdict
from airflow_prs.run_folder.attempt_records import Link, StoredVerdict
from airflow_prs.run_folder.ledger import ShardState
from airflow_prs.run_folder.names import attempt_name
from airflow_prs.store import files

_VERDICT: TypeAdapter[StoredVerdict] = TypeAdapter(StoredVerdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatekeeperClaim:
    """
    The first record of a try of the gatekeeper; see attempt_records.Claim.

    :param attempt: ``<try number, six digits>-<task instance id>``.
    :param max_tries: max_tries of the Airflow task.
    :param set_aside: names of the verdicts that do not apply to it.
    """

    attempt: str
    max_tries: int
    set_aside: tuple[str, ...] = ()


_CLAIM: TypeAdapter[GatekeeperClaim] = TypeAdapter(GatekeeperClaim)


def verdict_names(folder: Path) -> list[str]:
    """Return the names of all verdicts, including those that no longer apply."""
    return sorted(path.stem for path in folder.glob("*.json")) if folder.exists() else []


def set_aside_by_clear(verdicts: Iterable[StoredVerdict], before: Collection[str]) -> set[str]:
    """
    Return the names of the verdicts that a clear sets aside: those that existed before it.

    A verdict whose author had set aside more than the predecessor was made after the clear, by a faster shard.

    :param before: verdicts that the predecessor's claim had set aside.
    """
    return {*before, *(stored.name for stored in verdicts if set(stored.set_aside) <= set(before))}


def write_verdict(
    folder: Path,
    verdict: Verdict,
    *,
    author: str,
    attempt: str,
    counted: Mapping[int, Link],
    counted_loans: Mapping[int, tuple[Link, ...]],
    set_aside: Collection[str] = (),
) -> StoredVerdict:
    """
    Write a verdict unless its author has written one in this attempt, and return the one that was written first.

    :param counted: see StoredVerdict.
    :param counted_loans: see StoredVerdict.
    :param set_aside: verdicts that its author has set aside.
    """
    stored = StoredVerdict(
        name=f"{author}-{attempt}",
        verdict=verdict,
        counted=counted,
        counted_loans=counted_loans,
        author=author,
        at=time.time(),
        set_aside=tuple(sorted(set_aside)),
    )
    files.make_folder(folder)
    path = folder / f"{stored.name}.json"
    if files.write_once(path, _VERDICT.dump_json(stored)):
        return stored
    return _VERDICT.validate_json(path.read_bytes())


def read_verdicts(folder: Path, set_aside: Collection[str]) -> list[StoredVerdict]:
    """Return the verdicts that were not set aside, oldest first."""
    names = [name for name in verdict_names(folder) if name not in set_aside]
    stored = [_VERDICT.validate_json((folder / f"{name}.json").read_bytes()) for name in names]
    return sorted(stored, key=lambda verdict: verdict.at)


def has_counted_void(stored: StoredVerdict, states: Mapping[int, ShardState]) -> bool:
    """Whether a verdict counted a commit that no longer counts, so that it does not apply."""
    links = [*stored.counted.items(), *((number, x) for number, loans in stored.counted_loans.items() for x in loans)]
    return any(not _counts(link, states[number]) for number, link in links if number in states)


def _counts(link: Link, state: ShardState) -> bool:
    for counting in state.chain:
        if counting.attempt == link.attempt:
            return link.committed_bytes <= counting.committed_bytes
    return False


def open_gatekeeper(
    folder: Path, verdicts: Path, *, try_number: int, task_instance_id: str, max_tries: int
) -> GatekeeperClaim:
    """
    Return the claim of a try of the gatekeeper; the same try, executed again after a wait, gets its first claim.

    :param max_tries: max_tries of the Airflow task; if it differs from the previous claim, the gatekeeper was cleared,
        which sets aside the existing verdicts.
    """
    files.make_folder(folder)
    name = attempt_name(try_number, task_instance_id)
    claims = {path.stem: path for path in folder.glob("*.json")}
    if name in claims:
        return _CLAIM.validate_json(claims[name].read_bytes())
    set_aside: set[str] = set()
    if claims:
        before = _CLAIM.validate_json(claims[max(claims)].read_bytes())
        set_aside |= set(before.set_aside)
        if before.max_tries != max_tries:
            set_aside |= set_aside_by_clear(read_verdicts(verdicts, set_aside), set_aside)
    claim = GatekeeperClaim(attempt=name, max_tries=max_tries, set_aside=tuple(sorted(set_aside)))
    files.write_once(folder / f"{name}.json", _CLAIM.dump_json(claim))
    return claim
