"""Files that were packed by gzip, bzip2, xz or zstd, recognized by how they begin, whatever their names."""

from __future__ import annotations

import importlib
from typing import Any, BinaryIO


def unpacked(file: BinaryIO) -> Any:
    """
    Give what is in a file that stands at its beginning; the file itself where it is not packed.

    :raises ImportError: if the environment lacks what unpacks it: pyarrow for zstd.
    """
    begin = file.read(6)
    file.seek(0)
    if begin.startswith(b"\x1f\x8b"):
        return importlib.import_module("gzip").GzipFile(fileobj=file)
    if begin.startswith(b"BZh"):
        return importlib.import_module("bz2").BZ2File(file)
    if begin.startswith(b"\xfd7zXZ\0"):
        return importlib.import_module("lzma").LZMAFile(file)
    if begin.startswith(b"\x28\xb5\x2f\xfd"):
        return importlib.import_module("pyarrow").CompressedInputStream(file, "zstd")
    return file
