"""Open text files, also compressed ones, as bytes in which line breaks, quotes and separators are ASCII bytes."""

from __future__ import annotations

import codecs
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import IO, BinaryIO, cast

from airflow_prs.errors import InputError, StorageError
from airflow_prs.inputs.files.opening import InputFile
from airflow_prs.worker.reading.unpacking import unpacked

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class OpenText:
    """
    A text file that is open for reading.

    :param file: the file to read from, without a byte order mark.
    :param encoding: encoding of the bytes that are read.
    :param position: position in the file of the first of these bytes; None: they are decompressed or recoded, so they
        have no position and the file cannot be cut.
    :param path: path of the file.
    :param again: opens the file once more.
    """

    file: IO[bytes]
    encoding: str
    position: int | None
    path: str
    again: Callable[[], AbstractContextManager[OpenText]]

    @property
    def is_whole(self) -> bool:
        """Return whether the file cannot be cut, but only be read from its beginning to its end."""
        return self.position is None


@contextmanager
def open_text(source: InputFile, encoding: str, characters: str) -> Iterator[OpenText]:
    """
    Open a text file, and decompress or recode it if necessary.

    :param characters: ASCII characters that must each be one byte, which is not a part of another character. In another
        encoding the file is recoded to UTF-8.
    :raises InputError: if the file cannot be opened, decompressed or decoded, also later while it is read.
    """
    path = source.path
    with ExitStack() as stack:
        try:
            file = stack.enter_context(source.open())
            plain = _unpack(path, file, stack)
            again = partial(open_text, source, encoding, characters)
            text, encoding_read, position = _decoded(path, plain, encoding, characters)
            yield OpenText(text, encoding_read, position if plain is file else None, path, again)
        except UnicodeError as error:
            raise InputError(f"{path!r} cannot be read (encoding {encoding!r}): {error}") from error
        except (EOFError, lzma.LZMAError, zlib.error) as error:
            raise InputError(f"{path!r} is damaged: {error}") from error
        except StorageError:
            raise
        except OSError as error:
            raise InputError(f"{path!r} cannot be read: {error.strerror or error}") from error


@cache
def is_like_ascii(encoding: str, characters: str) -> bool:
    """
    Return whether ASCII characters are one byte in an encoding, which is never a part of another character.

    :param characters: these characters, a line feed among them.
    """
    decoder = codecs.getincrementaldecoder(encoding)
    try:
        if not all(decoder().decode(bytes([byte])) for byte in range(128)):
            return False  # some ASCII characters change the meaning of others
        if characters.encode("ascii").decode(encoding) != characters:
            return False
        sample = _all_pairs() + _SOME_OTHERS.encode(encoding, "ignore")
        text = sample.decode(encoding, "ignore")
    except ValueError:
        return False
    return all(text.count(character) == sample.count(character.encode()) for character in characters)


_SOME_OTHERS = "".join(map(chr, range(0x80, 0x800)))
"""In an encoding with characters of four bytes, these contain each ASCII byte that can be part of a character."""


def _all_pairs() -> bytes:
    """Return lines with every pair of bytes, and with the characters of three bytes that the EUC encodings have."""
    pairs = bytearray(b"\n") * (3 * 256 * 256)
    pairs[0::3] = b"".join(bytes([first]) * 256 for first in range(256))
    pairs[1::3] = bytes(range(256)) * 256
    euc = range(0xA1, 0xFF)
    return bytes(pairs) + b"\n".join(bytes([0x8F, second, third]) for second in euc for third in euc)


def _unpack(path: str, file: BinaryIO, stack: ExitStack) -> IO[bytes]:
    if file.read(len(_ZIP)) == _ZIP:
        raise InputError(f"{path!r} is compressed with zip, which is not supported: use gzip, bzip2, xz or zstd.")
    file.seek(0)
    return cast("IO[bytes]", stack.enter_context(unpacked(file)))


def _decoded(path: str, file: IO[bytes], encoding: str, characters: str) -> tuple[IO[bytes], str, int | None]:
    """Return the file to read from, its encoding, and the position of its first byte."""
    if not is_like_ascii(encoding, characters):
        text = _Recoded(file, encoding)
        begin = text.read(len(codecs.BOM_UTF8))
        return _without_mark(begin, codecs.BOM_UTF8, text), "utf-8", None
    mark = _mark_of(encoding)
    begin = file.read(max(len(mark), 2))
    if begin.startswith(_UTF16_MARKS):
        raise InputError(
            f"{path!r} starts with a UTF-16 byte order mark, but encoding is {encoding!r}; set encoding='utf-16'."
        )
    return _without_mark(begin, mark, file), encoding, len(mark) if begin.startswith(mark) else 0


def _mark_of(encoding: str) -> bytes:
    """Return the byte order mark of an encoding; empty: it has none."""
    codec = codecs.lookup(encoding).name
    try:
        return "\ufeff".encode("utf-8" if codec.startswith("utf-8") else codec)
    except UnicodeError:
        return b""


def _without_mark(begin: bytes, mark: bytes, file: IO[bytes] | _Recoded) -> IO[bytes]:
    """
    Return a file without its byte order mark.

    :param begin: the first bytes of the file, which were read already.
    """
    return cast("IO[bytes]", _Rest(begin.removeprefix(mark), file))


class _Rest:
    """
    A file whose first bytes were read already.

    :param begin: these bytes, or the rest of them.
    """

    def __init__(self, begin: bytes, file: IO[bytes] | _Recoded) -> None:
        self._begin = begin
        self._file = file

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        begin, self._begin = self._begin[:size], self._begin[size:]
        return begin + self._file.read(size - len(begin)) if len(begin) < size else begin


class _Recoded:
    """A file that is recoded to UTF-8 while it is read."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, about as many as ``size``; none only at the end of the file."""
        while data := self._file.read(max(size, 1)):
            if text := self._decode(data):
                return text.encode()
        return self._decode(b"", is_last=True).encode()

    def _decode(self, data: bytes, *, is_last: bool = False) -> str:
        waiting = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(data, is_last)
        except UnicodeDecodeError as error:
            byte = self._position - len(waiting) + error.start
            raise UnicodeError(f"{error.reason} at byte {byte}") from error
        self._position += len(data)
        return text
