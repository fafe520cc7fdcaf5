"""Entry scripts made of functions."""

from __future__ import annotations

import functools
import importlib.util
import linecache
import sys
import traceback
import zipfile
from textwrap import dedent, indent
from typing import TYPE_CHECKING

import pytest

from airflow_prs.config.function_script import make_script
from airflow_prs.errors import ConfigError
from airflow_prs.plan.snapshot import take_snapshot
from airflow_prs.worker.script import Script

if TYPE_CHECKING:
    from nowhere import Unknown

FACTOR = 3


def helper():
    return 1


@pytest.fixture(autouse=True)
def _own_lines():
    """Forget the lines that a script loaded into this very process has told."""
    yield
    linecache.clearcache()


@pytest.fixture
def define(tmp_path):
    """Define functions in a file, as a DAG file does, and give the module."""

    def define(source, name="dag_file"):
        path = tmp_path / f"{name}.py"
        path.write_bytes(source.encode())
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    yield define
    for name in ("dag_file", "made_script"):
        sys.modules.pop(name, None)


@pytest.fixture
def load(tmp_path):
    """Load a script as a worker process does, from another folder."""

    def load(script):
        path = tmp_path / "node" / script.file_name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script.text(), encoding="utf-8")
        spec = importlib.util.spec_from_file_location("made_script", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def make(run, reserved=frozenset(), **functions):
    return make_script(reserved, run=run, **functions)


def problems_of(run, **functions):
    with pytest.raises(ConfigError) as caught:
        make(run, reserved=frozenset({"output"}), **functions)
    return caught.value.problems


# What runs


def test_the_order_of_a_dict_is_kept(load):
    assert list(load(make(gets_dict).call({"words": {"b": 1, "a": 2}})).run([])) == ["b", "a"]


def gets_dict(mini_batch, words):
    return words


def test_a_function_in_a_zip_file_has_its_lines_too(load, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "dags.zip", "w") as packed:
        packed.writestr("zipped_dag.py", "def f(mini_batch):\n    return 'zipped'\n")
    monkeypatch.syspath_prepend(tmp_path / "dags.zip")
    module = importlib.import_module("zipped_dag")
    monkeypatch.delitem(sys.modules, "zipped_dag", raising=False)
    monkeypatch.setitem(sys.modules, "zipped_dag", module)
    assert load(make(module.f)).run([]) == "zipped"


async def waits(mini_batch, mini_batch_context, size):
    return [mini_batch_context, size]


def test_an_async_function_with_values_is_async_and_takes_the_context(load):
    script = Script(load(make(waits).call({"size": 2})))
    assert (script.is_async, script.takes_context) == (True, True)
    assert script.complete(script.run([], "context")) == ["context", 2]
    script.shutdown()


def annotated(mini_batch: Unknown, *, size: Unknown | None = None) -> list[Unknown]:
    empty: Unknown = size
    return [empty, *mini_batch]


def recursive(mini_batch):
    class Sum:
        start = 0
        total = start + len("")

        def add(self, value: Unknown):
            return self.total + value

    return [Sum().add(mini_batch[0]), *(recursive(mini_batch[1:]) if mini_batch[1:] else [])]


def test_annotations_may_name_what_is_not_there(load):
    assert load(make(annotated)).run([1]) == [None, 1]


def test_a_function_may_call_itself_and_define_classes(load):
    assert load(make(recursive)).run([1, 2]) == [1, 2]


SHAPES = {
    "at the left": ("def f(mini_batch):\n    return '''a\n   b'''\n", "a\n   b"),
    "in a block": ("if True:\n    def f(mini_batch):\n        return '''a\n    b'''\n", "a\n    b"),
    "without a line at its end": ("def f(mini_batch): return 'a'", "a"),
    "with tabs": ("if True:\n\tdef f(mini_batch):\n\t\treturn 'a\tb'\n", "a\tb"),
    "with the ends of lines of Windows": ("def f(mini_batch):\r\n    return 'a'\r\n\r\nb = 1\r\n", "a"),
    "right behind a form feed": ("a = 1\n\fdef f(mini_batch):\n    return 'a'\n", "a"),
    "behind a form feed": ("\f\ndef f(mini_batch):\n    return 'ä\\n'\n", "ä\n"),
    "at the first line": ("def f(mini_batch):\n    return 'a'\nf.b = 1\n", "a"),
    "below a decorator": (
        "def same(f):\n    return f\n\n@(\n    same\n)\n@same\ndef f(mini_batch):\n    return 'a'\n",
        "a",
    ),
    "beside one of its name": ("def f():\n    pass\n\ndef f(mini_batch):\n    return 'a'\n", "a"),
}


@pytest.mark.parametrize(("source", "returned"), SHAPES.values(), ids=SHAPES)
def test_the_source_is_taken_as_it_stands(define, load, source, returned):
    assert load(make(define(source).f)).run([]) == returned


@pytest.mark.parametrize("column", [0, 4])
def test_lines_are_those_of_the_file_which_is_not_there(define, load, tmp_path, column):
    source = '"""A DAG."""\n\nif True:\n    pass\n' + indent(
        dedent(
            """
            if True:
                pass

            def load():
                raise OSError

            def f(mini_batch):
                import warnings

                warnings.warn("look", stacklevel=1)
                return [
                    1 / item
                    for item in mini_batch
                ]
            """
        ),
        "" if column == 0 else "    ",
    )
    module = define(source)
    made = make(module.f, init=module.load)
    (tmp_path / "dag_file.py").unlink()
    linecache.clearcache()
    script = load(made)
    with pytest.warns(UserWarning, match="look") as caught, pytest.raises(ZeroDivisionError) as failure:
        script.run([0])
    line = source[: source.index("1 / item")].count("\n") + 1
    last = traceback.extract_tb(failure.value.__traceback__)[-1]
    assert (last.filename, last.lineno, last.line) == (str(tmp_path / "dag_file.py"), line, "1 / item")
    assert [(each.filename, each.lineno) for each in caught] == [(last.filename, line - 2)]
    with pytest.raises(OSError) as failure:
        script.init()
    assert traceback.extract_tb(failure.value.__traceback__)[-1].line == "raise OSError"


def uses_state(mini_batch, scale, offset=1, *, names=("a", "b")):
    state.append(offset)
    return [scale, offset, names, state]


def makes_state(scale, start=7):
    global state  # noqa: PLW0603
    state = [start, scale]


def test_functions_share_globals_and_get_the_parameters_that_they_name(load):
    made = make(uses_state, init=makes_state).call({"scale": {"a": [1.5, None]}, "start": 2})
    script = load(made)
    script.init()
    assert script.run([]) == [{"a": [1.5, None]}, 1, ("a", "b"), [2, {"a": [1.5, None]}, 1]]


# What is refused


def reads_outside(mini_batch, first=FACTOR):
    return [helper() for _ in mini_batch]


def reads_state(mini_batch):
    return state


def takes_many(mini_batch, *args, **kwargs):
    return mini_batch


def takes_late(mini_batch, size, mini_batch_context):
    return mini_batch


def takes_reserved(mini_batch, output):
    return mini_batch


def takes_by_position(mini_batch, size, /):
    return mini_batch


def takes_nothing():
    return []


@functools.lru_cache
def cached(mini_batch):
    return mini_batch


@functools.wraps(helper)
def wrapping(mini_batch):
    return mini_batch


def closing():
    word = "a"

    def inner(mini_batch):
        nonlocal word
        word += helper.__name__
        return [word]

    return inner


class Method:
    def run(self):
        return super().__init__()


unknown_source = eval("lambda: 0").__class__(compile("def f(x): pass", "<none>", "exec").co_consts[0], {})

REFUSED = {
    "a name from around it": (reads_outside, "uses FACTOR, helper; it runs alone in worker processes"),
    "a name that no init sets": (reads_state, "uses state; it runs alone"),
    "any number of parameters": (takes_many, r"takes_many takes \*args, \*\*kwargs; allowed: parameters with a name"),
    "a late context": (takes_late, "takes mini_batch_context too late; allowed: as its second parameter"),
    "a parameter of the call": (takes_reserved, "has a parameter output, which has another meaning in its call"),
    "a parameter without a name": (takes_by_position, "takes size by position only; remove the '/'"),
    "no parameter": (takes_nothing, "has no parameter; allowed: one for the mini-batch"),
    "an object": (cached, "run is .*; allowed: a function written with def or async def"),
    "a wrapper": (wrapping, "has another decorator below"),
    "a closure": (closing(), "inner uses word of the function or class around it"),
    "a method": (Method.run, "run uses __class__ of the function or class around it"),
    "a lambda": (lambda mini_batch: mini_batch, "run is <function <lambda>.*allowed: a function written with def"),
    "no file": (unknown_source, "the source of f cannot be read"),
}


@pytest.mark.parametrize(("function", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_run_alone_is_an_error_that_names_it(function, problem):
    with pytest.raises(ConfigError, match=problem):
        make(function, reserved=frozenset({"output"}))


def test_a_name_that_has_another_meaning_in_the_script_is_refused(define):
    module = define("def init(mini_batch):\n    return mini_batch\n\ndef shutdown():\n    pass\n")
    (problem,) = problems_of(module.init)
    assert "line 1) is the run() of the script, where init means something else; rename it" in problem
    (problem,) = problems_of(takes_nothing_but_the_batch, init=module.shutdown)
    assert "is the init() of the script, where shutdown means something else; rename it" in problem
    assert make(takes_nothing_but_the_batch, shutdown=module.shutdown)


def test_an_error_says_where_the_function_stands():
    (problem,) = problems_of(reads_outside)
    assert problem.startswith(f"reads_outside ({__file__}, line {reads_outside.__code__.co_firstlineno}) uses")


def test_all_problems_are_told_at_once():
    assert len(problems_of(takes_late, init=closing(), shutdown=cached)) == 3


def test_what_init_uses_is_looked_at_too():
    (problem,) = problems_of(takes_nothing_but_the_batch, init=reads_factor)
    assert "reads_factor" in problem
    assert "uses FACTOR" in problem


def takes_nothing_but_the_batch(mini_batch):
    return mini_batch


def reads_factor():
    global other  # noqa: PLW0603
    other = FACTOR


CALLS = {
    "an unknown name": ({"scale": 1, "offsets": 2}, "offsets is no parameter of uses_state; did you mean 'offset'?"),
    "the mini-batch": ({"scale": 1, "mini_batch": []}, "mini_batch is no parameter of uses_state"),
    "a missing one": ({}, r"uses_state\(\) lacks the parameter scale"),
    "a tuple": ({"scale": (1, 2)}, r"scale is \(1, 2\); allowed: None, True"),
    "a set, deep inside": ({"scale": [{"a": {1}}]}, r"scale\[0\]\['a'\] is \{1\}; allowed"),
    "what JSON lacks": ({"scale": [float("nan")]}, r"scale\[0\] is nan; allowed: None, True, False, a finite number"),
    "a number as a key": ({"scale": {1: 2}}, "scale is {1: 2}; allowed"),
}


@pytest.mark.parametrize(("given", "problem"), CALLS.values(), ids=CALLS)
def test_a_wrong_value_in_the_call_is_an_error_that_names_it(given, problem):
    with pytest.raises(ConfigError, match=problem):
        make(uses_state, init=makes_state).call(given)


def test_a_function_without_further_parameters_says_that_it_has_none():
    with pytest.raises(ConfigError, match="threshold is no parameter of takes_nothing_but_the_batch; known: none"):
        make(takes_nothing_but_the_batch).call({"threshold": 3})


def test_what_a_run_makes_of_a_value_is_looked_at_again():
    made = make(uses_state, init=makes_state)
    with pytest.raises(ConfigError, match=r"scale\[1\] is b'x'; allowed"):
        made.resolve({"scale": [1, b"x"]})


# The work


def digest_of(script, folder, source_directory=None):
    with take_snapshot(source_directory, script, base=str(folder)) as snapshot:
        return snapshot.digest, snapshot.entry_script, snapshot.source.decode()


def test_the_digest_holds_source_and_values_but_not_the_place(define, tmp_path):
    source = "def f(mini_batch, size=1):\n    return size\n"

    def digest(source, **given):
        return digest_of(make(define(source).f).call(given), tmp_path)[0]

    assert digest(source) == digest(f"# above\n\n{source}")
    others = [digest(source), digest(source, size=1), digest(source, size=2), digest(source.replace("1", "3"))]
    assert len(set(others)) == 4


def test_a_script_of_functions_stands_beside_the_files_of_source_directory(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "helper.py").write_text("")
    made = make(takes_nothing_but_the_batch)
    alone, beside = digest_of(made, tmp_path), digest_of(made, tmp_path, "scripts")
    assert alone[1:] == beside[1:] == ("parallel_run_takes_nothing_but_the_batch.py", made.text())
    assert alone[0] != beside[0]
