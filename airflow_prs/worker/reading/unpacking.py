"""Files compressed by gzip, bzip2, xz or zstd, recognized by their first bytes; their names do not matter."""

from __future__ import annotations

import importlib
from typing import Any, BinaryIO


def unpacked(file: BinaryIO) -> Any:
    """
    Return a file that reads the decompressed content; the file itself if it is not compressed.

    :param file: the file, at its beginning.
    :raises ImportError: if the environment lacks the module that decompresses it, such as pyarrow for zstd.
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
