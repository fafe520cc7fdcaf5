"""Descriptions of exceptions for the supervisor: one line, and a traceback without the frames of this package."""

from __future__ import annotations

import os
import re
import traceback
from types import TracebackType

LONGEST_ERROR = 1_000
"""In characters; the entire message is at the end of the traceback."""

LONGEST_TRACEBACK = 50_000
"""In characters."""

CUT = " ... "
"""Marks where a text was cut; the supervisor masks parts of secrets that are left there."""

OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_OWN_NAMES = re.compile(rf"(?m)^(?=\S){re.escape(__name__.rpartition('.')[0])}\.(?:\w+\.)*(?=\w+(?::|$))")
"""The modules before the names of our own exceptions, which tell users nothing."""
IMPORT_MACHINERY = "<frozen importlib"
_ENDS = ("error", "exit")


def describe(error: BaseException) -> dict[str, str]:
    """Return the fields ``error`` and ``traceback`` of a message to the supervisor."""
    text, line = format_traceback(error), one_line(error)
    if isinstance(error, SystemExit):
        text += _words_of_argparse(error)
    # Without a frame of the user's, it may only repeat the error.
    return {"error": line, "traceback": "" if text.strip() == line else shorten(text, LONGEST_TRACEBACK)}


def one_line(error: BaseException) -> str:
    """Return type and message of an exception, such as ``ValueError: bad pixel``."""
    text = _type_and_message(error)
    if isinstance(error, SystemExit) and (reason := _reason_of_exit(error)):
        text += f" ({reason})"
    return shorten(text, LONGEST_ERROR)


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an exception and its causes, each from the first frame outside this package."""
    try:
        for part in _chain(error):
            part.__traceback__ = _from_users_frame(part.__traceback__)
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return _OWN_NAMES.sub("", text)
    except BaseException as failure:  # noqa: BLE001 - methods of the exception may be the user's code
        return f"{one_line(error)}\n(no traceback: {one_line(failure)})\n"


def shorten(text: str, longest: int) -> str:
    """Return a text, cut in the middle if it is too long: both ends of a traceback matter."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}{CUT}{text[-half:]}"


def _type_and_message(error: BaseException) -> str:
    try:
        message = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - str() runs the user's own code
        message = "<its str() fails>"
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def _reason_of_exit(error: SystemExit) -> str:
    """Return why the script exits: the message of argparse, or the exception in whose handler it exits; else ''."""
    if words := _words_of_argparse(error):
        return " ".join(words.split())
    # click exits in an exception handler. A script that raises "from None" does not want the context to be shown.
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "" if cause is None or isinstance(error.code, str) else _type_and_message(cause)


def _words_of_argparse(error: SystemExit) -> str:
    """Return the message that an argparse parser printed before it exited; '' if it was not argparse."""
    words = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name in _ENDS:
            variables = frame.f_locals
            message = variables.get("message")
            if isinstance(message, str) and _is_parser(variables.get("self")):
                words = message or words
    return words


def _is_parser(value: object) -> bool:
    """Whether a value is an argparse parser, by the names of its classes: the script may have replaced the class."""
    return any((c.__module__, c.__name__) == ("argparse", "ArgumentParser") for c in type(value).__mro__)


def _chain(error: BaseException) -> list[BaseException]:
    """Return the exception, its causes and its contexts, each once."""
    found = [error]
    seen = {id(error)}
    for part in found:
        for other in (part.__cause__, part.__context__):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                found.append(other)
    return found


def _from_users_frame(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith((OWN_FOLDER, IMPORT_MACHINERY)):
        frames = frames.tb_next
    return frames
