"""source.zip: the code of a run. The same files make the same bytes."""

# ruff: noqa: PTH112, PTH113, PTH115, PTH118, PTH119, PTH123
# Paths are text here: Path objects for many files would cost too much.
from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from airflow_prs.config.function_script import FunctionScript
from airflow_prs.errors import ConfigError, EntryScriptError
from airflow_prs.inputs.files.listing import absolute_path
from airflow_prs.inputs.files.walking import walk
from airflow_prs.records import RUNS

_LEFT_OUT = frozenset({"__pycache__", ".git", RUNS})
_EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 1024 * 1024
_UNIX = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The packed code of a run, not yet in the run folder.

    :param digest: changes whenever a name, a content or an executable bit changes.
    :param entry_script: path of the entry script inside the archive.
    :param source: content of the entry script.
    :param archive: the zip file.
    """

    digest: str
    entry_script: str
    source: bytes
    archive: IO[bytes]


@contextmanager
def take_snapshot(source_directory: str | None, entry_script: str | FunctionScript, *, base: str) -> Iterator[Snapshot]:
    """
    Pack a folder, or only the entry script, and yield the snapshot. Each file is read once.

    :param source_directory: folder to pack, without caches, ``.git`` and run folders; None: only the entry script.
    :param entry_script: path of the script, relative to source_directory, or to ``base`` if there is none; or functions
        from which the script is made.
    :param base: folder that relative paths start from.
    :raises ConfigError: if the folder cannot be packed.
    :raises EntryScriptError: if the entry script does not exist.
    """
    files, name = _collect(source_directory, entry_script, base)
    if name not in files:
        raise EntryScriptError(
            f"entry_script={entry_script!r} is not a file in {source_directory or base!r}; its path must be relative "
            "to source_directory, or to the folder of the DAG file if there is no source_directory."
        )
    with tempfile.TemporaryFile() as archive:
        digest = _pack(files, archive)
        archive.seek(0)
        with zipfile.ZipFile(archive) as packed:
            source = packed.read(name)
        yield Snapshot(digest, name, source, archive)


def _collect(
    source_directory: str | None, entry_script: str | FunctionScript, base: str
) -> tuple[dict[str, str | FunctionScript], str]:
    """Return the files to pack by their names in the archive, and the name of the entry script."""
    root = absolute_path(source_directory, base) if source_directory else None
    files: dict[str, str | FunctionScript] = {}
    if source_directory and root is not None:
        files.update(_files_of_folder(source_directory, root))
    if isinstance(entry_script, FunctionScript):
        files[entry_script.file_name] = entry_script
        return files, entry_script.file_name
    if root is not None:
        return files, os.path.relpath(os.path.join(root, entry_script), root)
    path = absolute_path(entry_script, base)
    # A script inside the DAG file's folder keeps its relative path; others keep only their file name.
    inside = os.path.relpath(path, base)
    name = os.path.basename(path) if inside.startswith("..") else inside
    return ({name: path} if os.path.isfile(path) else {}), name


def _files_of_folder(source_directory: str, root: str) -> dict[str, str]:
    if not os.path.isdir(root):
        raise ConfigError([f"source_directory={source_directory!r}: {root!r} is not a folder"])
    entries = walk(
        root,
        start=True,
        takes=lambda _: _is_code,
        enters=lambda name, _: True if _is_code(name) else None,
        follows=_require_no_loop,
    )
    return {os.path.relpath(entry.path, root): entry.path for entry in entries}


def _is_code(name: str) -> bool:
    return name not in _LEFT_OUT


def _require_no_loop(link: str, _target: str, is_loop: bool) -> bool:  # noqa: FBT001 - as walk() asks
    if is_loop:
        target = os.readlink(link)
        problem = f"source_directory: the link {link!r} leads to {target!r}, which contains the link; remove it."
        raise ConfigError([problem])
    return True


def _pack(files: dict[str, str | FunctionScript], archive: IO[bytes]) -> str:
    """Write files to an archive in the order of their names, and return the digest of all."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(files):
            found = files[name]
            if isinstance(found, FunctionScript):
                digest.update(_pack_script(name, found, packed))
                continue
            try:
                digest.update(_pack_file(name, found, packed))
            except (OSError, UnicodeEncodeError) as error:
                raise ConfigError([f"source_directory: {found!r} cannot be packed: {error}"]) from error
    return digest.hexdigest()


def _pack_script(name: str, script: FunctionScript, packed: zipfile.ZipFile) -> bytes:
    packed.writestr(_info(name, is_executable=False), script.text())
    return _line(name, hashlib.sha256(script.work().encode()).hexdigest(), is_executable=False)


def _pack_file(name: str, path: str, packed: zipfile.ZipFile) -> bytes:
    """Write one file to an archive, and return its line for the digest."""
    content = hashlib.sha256()
    with open(path, "rb") as file:
        is_executable = bool(os.fstat(file.fileno()).st_mode & 0o100)
        with packed.open(_info(name, is_executable=is_executable), "w", force_zip64=True) as target:
            while chunk := file.read(_CHUNK_BYTES):
                content.update(chunk)
                target.write(chunk)
    return _line(name, content.hexdigest(), is_executable=is_executable)


def _info(name: str, *, is_executable: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EARLIEST_TIME)
    info.create_system = _UNIX
    info.external_attr = (0o100755 if is_executable else 0o100644) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _line(name: str, content: str, *, is_executable: bool) -> bytes:
    return json.dumps([name, is_executable, content]).encode() + b"\n"
