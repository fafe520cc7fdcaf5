"""Reserved arguments that the entry script must not get: argparse would take them for options of the script."""

from __future__ import annotations

import ast
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO

logger = logging.getLogger(__name__)

_OPTION = re.compile(r"--\w[\w-]*")
_QUOTED = re.compile(r"""(["'])(--\w[\w/-]*)\1""")


def find_withheld(archive: IO[bytes], names: Sequence[str]) -> dict[str, str]:
    """
    Return the reserved names that argparse in the script would take for prefixes of longer options.

    A name is not withheld if the text of a script contains it as an option of its own. Each withheld name is logged.

    :param archive: the packed scripts; none of them is run.
    :param names: reserved names, without dashes.
    :return: the longer option by name.
    """
    may_matter = re.compile("--(?:{})".format("|".join(names)).encode())
    found: dict[str, str] = {}
    archive.seek(0)
    with zipfile.ZipFile(archive) as packed:
        for script in packed.namelist():
            if script.endswith(".py") and may_matter.search(source := packed.read(script)):
                for option in _options(source):
                    found.setdefault(option, script)
    withheld: dict[str, str] = {}
    for name in names:
        longer = next((option for option in found if option.startswith(f"--{name}")), None)
        if longer is not None and f"--{name}" not in found:
            withheld[name] = longer
            logger.info(
                "The entry script does not get --%s: argparse would take it for the option %s of %s. A script that has "
                "--%s itself gets it.",
                name,
                longer,
                found[longer],
                name,
            )
    return withheld


def _options(source: bytes) -> Iterator[str]:
    """Yield all strings in a script that are names of options, or of several such as ``--fast/--slow``."""
    for text in _texts(source):
        for part in text.split("/"):
            if _OPTION.fullmatch(part):
                yield part


def _texts(source: bytes) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # The script may be written for another version of Python.
        yield from (match[2] for match in _QUOTED.finditer(source.decode("utf-8", "replace")))
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
