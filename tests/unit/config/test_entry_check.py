"""What can be said about an entry script without running it."""

import pytest

from airflow_prs.config.entry_check import check_entry_script
from airflow_prs.errors import EntryScriptError


@pytest.mark.parametrize(
    "source",
    [
        "def run(mini_batch): ...",
        "async def run(mini_batch): ...",
        "run = lambda mini_batch: []",
        "run: object = print",
        "first, (run, _) = 1, (2, 3)",
        "from other import score as run",
        "from other import run",
        "from other import *",
        "try:\n    from fast import run\nexcept ImportError:\n    def run(b): ...",
        "if True:\n    def run(b): ...",
    ],
)
def test_run_may_be_defined_in_any_way(source):
    check_entry_script(source.encode(), "score.py")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def runs(b): ...",
        "class A:\n    def run(self): ...",
        "def f():\n    run = 1",
        "from run import x",
        "print(run)",
    ],
)
def test_a_script_without_run_is_refused(source):
    with pytest.raises(EntryScriptError, match=r"score\.py defines no run\(\)"):
        check_entry_script(source.encode(), "score.py")


def test_a_syntax_error_names_file_and_line():
    with pytest.raises(EntryScriptError, match=r"score\.py, line 2: "):
        check_entry_script(b"def run(b):\nreturn", "score.py")


def test_a_file_that_is_no_script_is_refused():
    with pytest.raises(EntryScriptError, match=r"score\.py"):
        check_entry_script(b"\0\0", "score.py")


def test_another_python_may_know_more_syntax():
    check_entry_script(b"def run(b):\nreturn", "score.py", is_same_python=False)


def test_what_only_the_compiler_finds_is_found_too():
    with pytest.raises(EntryScriptError, match=r"score\.py, line 3: 'break' outside loop"):
        check_entry_script(b"def run(b):\n  ...\nbreak", "score.py")


def test_warnings_about_a_script_are_left_to_the_worker_processes(recwarn):
    check_entry_script(rb"""def run(b): return "\d" is b""", "score.py")
    assert not recwarn.list


def test_nothing_of_the_script_runs():
    check_entry_script(b"def run(b): ...\nraise SystemExit(3)", "score.py")
