"""Where local copies are, and the address that a local path stands for."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from airflow_prs.errors import StagingError
from airflow_prs.object_storage.addresses import Address, Kind

_LONGEST_NAME = 255
_LONGEST_PATH = 4095
_UNFIT = re.compile(r"//|/\.\.?(/|$)|/$|\0")
_KINDS = "|".join(kind.value for kind in Kind)


class Places:
    """
    The folder of the local copies of a node.

    A copy of ``s3://conn@bucket/key`` is at ``<root>/<number>/s3/conn@bucket/key``, so that scripts find names and
    folders as they are on the storage, and that any text with a local path can be turned back.

    :param root: the folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers = itertools.count()
        self._local = re.compile(rf"{re.escape(str(root))}/\d+/({_KINDS})/")

    def next_number(self) -> int:
        """Return the number of a new folder."""
        return next(self._numbers)

    def folder(self, number: int) -> Path:
        """Return the folder of the copies that are removed together."""
        return self.root / str(number)

    def path(self, number: int, address: Address) -> str:
        """
        Return the path of a local copy.

        :param number: of its folder.
        :raises StagingError: if there can be no such path.
        """
        place = str(address.bucket).replace("://", "/")
        path = f"{self.root}/{number}/{place}"
        if not address.key:
            return path
        path = f"{path}/{address.key}"
        size = len(os.fsencode(path))
        if size > _LONGEST_NAME or _UNFIT.search(path):
            for name in (place.partition("/")[2], *address.key.split("/")):
                if problem := _problem(name):
                    raise _unfit(address, f"a part of the key {problem}")
            if size > _LONGEST_PATH:
                raise _unfit(address, f"it would have more than {_LONGEST_PATH} bytes")
        return path

    def as_planned(self, text: str) -> str:
        """Return a text with the addresses of objects in place of the paths of their local copies."""
        return self._local.sub(r"\1://", text)


def _problem(name: str) -> str:
    if name in {"", ".", ".."}:
        return f"is {name!r}"
    if "\0" in name:
        return "has a NUL character"
    return f"has more than {_LONGEST_NAME} bytes" if len(os.fsencode(name)) > _LONGEST_NAME else ""


def _unfit(address: Address, reason: str) -> StagingError:
    return StagingError(
        f"{address}: this key cannot be a local path: {reason}; rename the object, or let the script read it itself, "
        'with FileDataset(..., mode="direct")'
    )
