"""Side inputs on object storage: copied once by each node, before init()."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from airflow_prs.errors import StagingError
from airflow_prs.node.input.download import Download
from airflow_prs.node.input.fetching import Fetcher
from airflow_prs.node.input.parts import NO_FRAME
from airflow_prs.node.input.places import Places
from airflow_prs.node.input.remote_file import RemoteFile, list_objects
from airflow_prs.object_storage.addresses import is_remote, parse_address
from airflow_prs.settings import RunSettings

_LOOK_S = 1.0


def with_local_side_inputs(
    settings: RunSettings, variables: Mapping[str, str], places: Places, look: Callable[[], None] = lambda: None
) -> tuple[RunSettings, dict[str, str]]:
    """
    Copy the side inputs that are on object storage, each of which is one object, or all below a folder.

    :param variables: the environment variables of the script.
    :param places: where the copies are.
    :param look: called once a second meanwhile; what it raises ends the copying.
    :return: settings and variables with the local paths in place of the addresses.
    :raises StagingError: if one cannot be copied.
    """
    fetcher = Fetcher()
    try:
        addresses = sorted(set(filter(is_remote, settings.side_inputs.values())))
        local = {path: _copy(path, places, fetcher, look) for path in addresses}
    finally:
        fetcher.close(0)
    localized = replace(
        settings,
        side_inputs={name: local.get(path, path) for name, path in settings.side_inputs.items()},
        arguments=tuple(local.get(argument, argument) for argument in settings.arguments),
    )
    return localized, {name: local.get(value, value) for name, value in variables.items()}


def _copy(path: str, places: Places, fetcher: Fetcher, look: Callable[[], None]) -> str:
    top, number = parse_address(path), places.next_number()
    objects = list_objects(top, fetcher.is_over)
    ended = threading.Semaphore(0)
    errors: list[str] = []

    def end(error: str) -> None:
        errors.extend(filter(None, [error]))
        ended.release()

    for address, size, etag in objects:
        Download(
            fetcher,
            RemoteFile(address, etag, fetcher.is_over),
            places.path(number, address),
            urgency=0,
            find_contents=lambda size=size: (NO_FRAME, [(0, size)]),  # type: ignore[misc]
            is_wanted=lambda: not errors,
            on_end=end,
        ).begin()
    _wait(ended, objects, look)
    if errors:
        raise StagingError(f"a side input cannot be copied: {errors[0]}")
    return places.path(number, top)


def _wait(ended: threading.Semaphore, objects: Sequence[object], look: Callable[[], None]) -> None:
    for _ in objects:
        while not ended.acquire(timeout=_LOOK_S):
            look()
