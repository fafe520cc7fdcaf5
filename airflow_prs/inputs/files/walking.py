"""Walking through folders, links included, without ever going in circles."""

# ruff: noqa: PTH110, PTH113, PTH115
# Paths are text here: Path objects for a million files would cost too much.
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from airflow_prs.errors import InputError

State = TypeVar("State")


def walk(
    root: str,
    start: State,
    takes: Callable[[State], Callable[[str], object]],
    enters: Callable[[str, State], State | None],
    follows: Callable[[str, str, bool], bool],
) -> Iterator[os.DirEntry[str]]:
    """
    Yield the files below a folder, in no particular order.

    :param start: state of the root.
    :param takes: asked once with each folder's state; gives what says of a file's name whether the file is wanted.
    :param enters: asked with the name of a folder and the state of the one that it lies in; gives its own state, or
        None to leave it out.
    :param follows: asked with the path of a link to a folder, the real folder, and whether the link lies in that; then
        it is not followed, whatever is said.
    :raises InputError: if a folder cannot be listed, or a link leads nowhere.
    """
    folders: list[tuple[str, State, tuple[str, ...]]] = [(root, start, ())]
    while folders:
        folder, state, crossed = folders.pop()
        is_wanted = takes(state)
        for entry in _entries(folder):
            if entry.is_file(follow_symlinks=False):
                if is_wanted(entry.name):
                    yield entry
            elif not _is_folder(entry):
                if is_wanted(entry.name) and _leads_to_file(entry):
                    yield entry
            elif (ahead := enters(entry.name, state)) is None:
                continue
            elif not entry.is_symlink():
                folders.append((entry.path, ahead, crossed))
            else:
                target, way = os.path.realpath(entry.path), (*crossed, os.path.realpath(folder))
                is_loop = _leads_back(target, way)
                if follows(entry.path, target, is_loop) and not is_loop:
                    folders.append((entry.path, ahead, way))


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise InputError(f"the folder {folder!r} cannot be listed: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; _leads_to_file reports it
        return False


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    """Sockets, pipes and devices are none; a link that leads nowhere is not left out in silence."""
    if not entry.is_symlink():
        return False
    if os.path.isfile(entry.path):
        return True
    if not os.path.exists(entry.path):
        raise InputError(
            f"the link {entry.path!r} leads to {os.readlink(entry.path)!r}, which does not exist; "
            "remove the link or bring back what it led to."
        )
    return False


def _leads_back(target: str, way: tuple[str, ...]) -> bool:
    """
    Whether a link leads to one of the folders that were passed on the way to it.

    :param target: the real folder that it leads to.
    :param way: the real folders that hold the links on the way, the last one holding this link.
    """
    inside = target.rstrip("/") + "/"
    return any(folder == target or folder.startswith(inside) for folder in way)
