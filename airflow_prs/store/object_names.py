"""Names of objects for keys: the key itself, but for characters that some storage refuses or changes."""

from __future__ import annotations

import re
from typing import Final

_ESCAPE: Final = "\u241b"
"""The picture of the key Esc, which hardly any key holds."""

# Control characters and those that XML cannot hold; what Azure takes for a slash, or drops at the end of a name.
_ODD: Final = re.compile("[\0-\x1f\x7f-\x9f\\\\\ud800-\udfff\ufffe\uffff" + _ESCAPE + "]|\\.(?=/|$)")
_ESCAPED: Final = re.compile(_ESCAPE + "([0-9a-f]+);")


def to_name(key: str) -> str:
    """Return the name of the object for a key."""
    return _ODD.sub(lambda found: f"{_ESCAPE}{ord(found[0]):x};", key)


def to_key(name: str) -> str:
    """Return the key for the name of an object."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
