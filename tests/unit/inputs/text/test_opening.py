"""In which encodings records are found by their bytes."""

import codecs
import encodings
import pkgutil
from encodings.aliases import aliases

import pytest

from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.text.opening import is_like_ascii, open_text

ASCII = [chr(code) for code in range(128) if chr(code) != "\n"]
SEPARATORS = '\t\r ",;|#\\~^@_{19A%'


def is_text(name):
    try:
        return codecs.lookup(name)._is_text_encoding
    except LookupError:
        return False


CODECS = sorted(
    {name for name in {*aliases.values(), *(m.name for m in pkgutil.iter_modules(encodings.__path__))} if is_text(name)}
)


def decoded(data, encoding, *, is_last=False):
    """Decode what may go on, unless it is the last; None: it cannot be decoded."""
    try:
        return data.decode(encoding) if is_last else codecs.getincrementaldecoder(encoding)().decode(data)
    except ValueError:
        return None


def sequences(encoding):
    """Try all sequences of up to three bytes that stand for something, and all characters that it can write."""
    foreign = "".join(map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x10000), 0x1F600, 0x2000B]))
    written = foreign.encode(encoding, "ignore")
    yield written, written.decode(encoding, "ignore")
    goes_on = [b""]
    for length in range(1, 4):
        tried = [(begin + bytes([byte])) for begin in goes_on for byte in range(256)]
        found = [(data, decoded(data, encoding, is_last=length == 3)) for data in tried]
        yield from ((data, text) for data, text in found if text)
        goes_on = [data for data, text in found if text == ""][:300]


def mixed_up(encoding):
    """List the ASCII characters that are not one byte each, which nothing else holds."""
    found = set()
    for data, text in sequences(encoding):
        chars = {*text, *data.decode("latin-1")}.intersection(ASCII)
        found |= {char for char in chars if text.count(char) != data.count(ord(char))}
    return found | {char for char in ASCII if decoded(char.encode(), encoding) != char}


@pytest.mark.parametrize("encoding", CODECS)
def test_characters_count_as_bytes_only_where_no_text_mixes_them_up(encoding):
    if not is_like_ascii(encoding, "a\n"):
        return
    mixed = mixed_up(encoding).intersection(SEPARATORS)
    assert [char for char in mixed if is_like_ascii(encoding, char + "\n")] == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "ascii", "cp1252", "latin-1", "koi8-r", "cp949", "euc_jp"])
def test_separators_are_bytes_in_encodings_like_ascii(encoding):
    assert is_like_ascii(encoding, '\n\r" \t,;|#')


@pytest.mark.parametrize(
    "encoding", ["shift_jis", "shift_jis_2004", "cp932", "big5", "big5hkscs", "cp950", "gbk", "gb18030", "johab"]
)
def test_in_double_byte_encodings_it_depends_on_the_separator(encoding):
    assert is_like_ascii(encoding, '\n\r" \t,#')
    assert not is_like_ascii(encoding, '\n\r" \t|')


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-32-be", "utf-7", "hz", "iso2022_kr", "cp037", "mac_arabic", "idna"]
)
def test_in_other_encodings_no_quote_is_its_byte(encoding):
    assert not is_like_ascii(encoding, '\n"')


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-8", "shift_jis", "gb18030", "utf-7"])
def test_what_is_read_is_the_text_without_its_mark(tmp_path, encoding, size):
    mark = "" if encoding in {"utf-16", "utf-8-sig", "shift_jis"} else "\ufeff"
    (tmp_path / "1").write_bytes((mark + "ポ|ü\n").encode(encoding) if encoding != "shift_jis" else b"\x83\x7c|u\n")
    (file,) = Listing.of([str(tmp_path / "1")]).files()
    with open_text(file, encoding, '\n"|') as text:
        data = b"".join(iter(lambda: text.file.read(size), b""))
        assert data.decode(text.encoding) == ("ポ|u\n" if encoding == "shift_jis" else "ポ|ü\n")
