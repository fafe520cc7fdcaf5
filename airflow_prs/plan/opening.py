"""Opening text files, packed and foreign ones too, as bytes in which line breaks and quotes are those of ASCII."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from airflow_prs.errors import InputError

_UTF8_MARK = codecs.BOM_UTF8
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GZIP, _BZIP2, _XZ, _ZSTD, _ZIP = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class OpenText:
    """
    A file that is open for reading.

    :param file: what to read from; a byte order mark is gone already.
    :param encoding: of what is read.
    :param position: where in the file that is; None: bytes have no place in the file, so it cannot be cut.
    """

    file: IO[bytes]
    encoding: str
    position: int | None

    @property
    def is_whole(self) -> bool:
        """Whether the file can be read only from its beginning to its end."""
        return self.position is None


@contextmanager
def open_text(path: str, encoding: str) -> Iterator[OpenText]:
    """
    Open a text file.

    :raises InputError: if it cannot be opened, unpacked or decoded.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open("rb"))
            begin = file.read(16)
            file.seek(0)
            unpacked = _unpack(path, file, begin, stack)
            yield _decoded(path, unpacked or file, encoding, is_packed=unpacked is not None)
        except UnicodeError as error:
            raise InputError(f"{path!r} cannot be read (encoding {encoding!r}): {error}") from error
        except (EOFError, lzma.LZMAError, zlib.error) as error:
            raise InputError(f"{path!r} is damaged: {error}") from error
        except OSError as error:
            raise InputError(f"{path!r} cannot be read: {error.strerror or error}") from error


def is_like_ascii(encoding: str) -> bool:
    """Whether a byte that is an ASCII character in this encoding always is that character."""
    codec = codecs.lookup(encoding).name
    try:
        is_same = bytes(range(ord("0"))).decode(codec) == bytes(range(ord("0"))).decode("ascii")
    except (LookupError, ValueError):
        return False
    return is_same and not codec.startswith(("iso2022", "utf-7", "hz"))


def _unpack(path: str, file: IO[bytes], begin: bytes, stack: ExitStack) -> IO[bytes] | None:
    if begin.startswith(_GZIP):
        return cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=file)))
    if begin.startswith(_BZIP2):
        return stack.enter_context(bz2.BZ2File(file))
    if begin.startswith(_XZ):
        return stack.enter_context(lzma.LZMAFile(file))
    if begin.startswith(_ZSTD):
        import pyarrow as pa

        return cast("IO[bytes]", stack.enter_context(pa.CompressedInputStream(file, "zstd")))
    if begin.startswith(_ZIP):
        raise InputError(f"{path!r} is compressed with zip, which is not supported: use gzip, bzip2, xz or zstd.")
    return None


def _decoded(path: str, file: IO[bytes], encoding: str, *, is_packed: bool) -> OpenText:
    if not is_like_ascii(encoding):
        # Decoded and written anew while it is read; unless closed it leaves the file itself alone.
        return OpenText(cast("IO[bytes]", codecs.EncodedFile(file, "utf-8", encoding)), "utf-8", None)
    begin = file.read(len(_UTF8_MARK))
    if begin.startswith(_UTF16_MARKS):
        raise InputError(f"{path!r} begins as UTF-16 does, but encoding is {encoding!r}; give encoding='utf-16'.")
    is_marked = codecs.lookup(encoding).name.startswith("utf-8") and begin == _UTF8_MARK
    if is_packed:
        return OpenText(cast("IO[bytes]", _Rest(b"" if is_marked else begin, file)), encoding, None)
    position = len(_UTF8_MARK) if is_marked else 0
    file.seek(position)
    return OpenText(file, encoding, position)


class _Rest:
    """
    A file of which the first bytes were read already.

    :param begin: these bytes.
    """

    def __init__(self, begin: bytes, file: IO[bytes]) -> None:
        self._begin = begin
        self._file = file

    def read(self, size: int) -> bytes:
        """Read what comes next."""
        begin, self._begin = self._begin, b""
        return begin + self._file.read(size)
