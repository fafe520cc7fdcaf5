"""Walk through folders and links to folders, without walking in circles."""

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
    :param takes: called once with the state of each folder; returns a function that tells by its name whether a file is
        wanted.
    :param enters: called with the name of a folder and the state of its parent; returns the folder's state, or None to
        leave it out.
    :param follows: called with the path of a link to a folder, the real folder, and whether the link is inside that
        folder; returns whether to follow the link. A link that is inside its own target is never followed.
    :raises InputError: if a folder cannot be listed, or the target of a link does not exist.
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
    except OSError:  # a link to itself; _leads_to_file raises the error
        return False


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a link to a regular file; raise InputError if its target does not exist."""
    if not entry.is_symlink():
        return False
    if os.path.isfile(entry.path):
        return True
    if not os.path.exists(entry.path):
        raise InputError(
            f"the link {entry.path!r} leads to {os.readlink(entry.path)!r}, which does not exist; "
            "remove the link or restore its target."
        )
    return False


def _leads_back(target: str, way: tuple[str, ...]) -> bool:
    """
    Return whether a link leads to one of the folders on the way to it.

    :param target: the real folder that the link leads to.
    :param way: the real folders that hold the links on the way; the last one holds this link.
    """
    inside = target.rstrip("/") + "/"
    return any(folder == target or folder.startswith(inside) for folder in way)
