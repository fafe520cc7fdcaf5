import argparse
import functools
import sys
import types
from unittest.mock import MagicMock

import pytest

from airflow_prs.worker import failures
from airflow_prs.worker.writing.rows import BadResultError, write_elements


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def caught(action):
    try:
        action()
    except (ValueError, RecursionError) as error:
        return error
    raise AssertionError("nothing was raised")


def bad_element():
    class Broken:
        def __str__(self):
            raise ValueError("bad pixel")

    write_elements([Broken()], lambda data: None)


def test_an_error_is_one_line_with_its_type():
    assert failures.one_line(ValueError("bad\n  pixel")) == "ValueError: bad pixel"


class OwnParser(argparse.ArgumentParser):
    def error(self, message):
        sys.stderr.write(f"Oh: {message}")
        sys.exit(3)


def parse(kind, *options):
    parser = kind(prog="score.py", add_help=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output")
    parser.add_argument("--output_dir", type=int)
    parser.parse_args(options)


def leave_as_click_does():
    try:
        int("--modle")
    except ValueError:
        sys.exit(2)


@pytest.mark.parametrize(
    ("leave", "error"),
    [
        (
            lambda: parse(argparse.ArgumentParser),
            "SystemExit: 2 (score.py: error: the following arguments are required: --model)",
        ),
        (
            lambda: parse(argparse.ArgumentParser, "--model", "m", "--outp", "x"),
            "SystemExit: 2 (score.py: error: ambiguous option: --outp could match --output, --output_dir)",
        ),
        (lambda: parse(OwnParser), "SystemExit: 3 (the following arguments are required: --model)"),
        (leave_as_click_does, "SystemExit: 2 (ValueError: invalid literal for int() with base 10: '--modle')"),
        (lambda: sys.exit("no model"), "SystemExit: no model"),
        (lambda: sys.exit(42), "SystemExit: 42"),
        (sys.exit, "SystemExit"),
    ],
)
def test_the_end_of_a_program_is_told_with_its_reason(leave, error):
    with pytest.raises(SystemExit) as caught:
        leave()
    told = failures.describe(caught.value)
    assert told["error"] == error
    assert error.partition("(")[2].rstrip(")") in told["traceback"]


@pytest.mark.parametrize("instead", [functools.partial(argparse.ArgumentParser, prog="score.py"), MagicMock()])
def test_the_end_of_a_program_that_replaces_argparse_is_told(monkeypatch, instead):
    parser = argparse.ArgumentParser(prog="score.py")
    monkeypatch.setattr(argparse, "ArgumentParser", instead)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--modle"])
    assert failures.one_line(caught.value) == "SystemExit: 2 (score.py: error: unrecognized arguments: --modle)"


def test_exceptions_in_a_ring_are_told():
    one, other = SystemExit(1), SystemExit(2)
    one.__context__, other.__context__ = other, one
    assert failures.describe(one)["error"] == "SystemExit: 1 (SystemExit: 2)"


def test_an_error_without_a_message_is_its_type():
    assert failures.one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_a_very_long_error_is_cut():
    assert len(failures.one_line(ValueError("x" * 10_000_000))) < 1_100


def test_an_error_that_cannot_be_told_is_still_named():
    assert failures.describe(MuteError()) == {
        "error": "MuteError: <its str() fails>",
        "traceback": f"{__name__}.MuteError: <exception str() failed>\n",
    }


def test_a_traceback_keeps_the_cause():
    def fail():
        try:
            {}["key"]
        except KeyError as error:
            raise ValueError("no such key") from error

    text = failures.describe(caught(fail))["traceback"]
    assert "KeyError: 'key'" in text
    assert "direct cause" in text
    assert text.endswith("ValueError: no such key\n")


def test_a_traceback_begins_with_the_users_frame(monkeypatch):
    def run():
        raise ValueError("bad pixel")

    own = types.FunctionType(
        compile("def call(run): run()", failures.OWN_FOLDER + "process.py", "exec").co_consts[0], {}, "call"
    )
    error = caught(lambda: own(run))
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # from our own code on
    frames = [line.strip() for line in failures.describe(error)["traceback"].split("\n") if "File" in line]
    assert len(frames) == 1
    assert frames[0].endswith("in run")


def test_a_users_frame_stays_where_it_was_called_from_ours():
    assert "in bad_element" in failures.describe(caught(bad_element))["traceback"]
    assert "in __str__" in failures.describe(caught(bad_element))["traceback"]


def test_exceptions_that_are_each_others_cause_end():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert failures.describe(one)["error"] == "ValueError: one"


def test_a_deep_recursion_is_described():
    def deeper():
        deeper()

    description = failures.describe(caught(deeper))
    assert description["error"].startswith("RecursionError")
    assert len(description["traceback"]) < failures.LONGEST_TRACEBACK + sys.getrecursionlimit()


def test_an_error_of_ours_without_a_frame_of_the_user_is_told_once():
    description = failures.describe(BadResultError("run() returned 42"))
    assert description == {"error": "BadResultError: run() returned 42", "traceback": ""}


def test_the_names_of_our_modules_are_left_out_behind_the_users_frames():
    def raise_from_a_cause():
        try:
            int("x")
        except ValueError as error:
            raise BadResultError("run() returned text") from error

    with pytest.raises(BadResultError) as caught:
        raise_from_a_cause()
    text = failures.describe(caught.value)["traceback"]
    assert text.splitlines()[-1] == "BadResultError: run() returned text"
    assert "ValueError: invalid literal" in text
