import asyncio
import pickle
import sys

import pytest

from airflow_prs.worker.script import EntryScriptError, MiniBatchContext, MiniBatchDataset, load_script


@pytest.fixture(autouse=True)
def _as_it_was():
    path, argv, modules = sys.path[:], sys.argv[:], set(sys.modules)
    yield
    asyncio.set_event_loop(None)
    sys.path[:], sys.argv[:] = path, argv
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def load(tmp_path):
    def write_and_load(text, name="score.py", arguments=()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return load_script(str(tmp_path), name, list(arguments))

    return write_and_load


def returned(script, context):
    """What run() returns for a mini-batch 'a'."""
    result = script.run("a", context)
    return script.complete(result) if script.is_async else result


def test_a_script_without_init_and_shutdown_runs(load):
    script = load("def run(mini_batch): return mini_batch")
    script.init()
    assert script.run(["a"], None) == ["a"]
    script.shutdown()


@pytest.mark.parametrize(
    "parameters",
    [
        "mini_batch, mini_batch_context",
        "mini_batch, context=None",
        "*arguments",
        "mini_batch, *rest",
        "mini_batch, context, *, x=1",
        "mini_batch, context, threshold=0.5",
        "mini_batch, mini_batch_context=False",
        "mini_batch, mini_batch_context=False, /",
        "mini_batch, threshold=0.5, mini_batch_context=None",
        "mini_batch, *, mini_batch_context",
        "mini_batch, *, threshold=0.5, mini_batch_context=None",
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_run_gets_the_context_where_it_has_a_place_for_it(load, parameters, kind):
    script = load(f"{kind} run({parameters}): return locals()")
    assert script.takes_context
    values = returned(script, "context").values()
    assert "context" in values or ("context",) in values or ("a", "context") in values
    assert 0.5 in values or "threshold" not in parameters


@pytest.mark.parametrize(
    "parameters",
    [
        "mini_batch",
        "mini_batch, **options",
        "mini_batch, *, x=1",
        "mini_batch, threshold=0.5",
        "mini_batch, threshold=0.5, model=None",
        "mini_batch, threshold=0.5, *rest",
        "mini_batch, is_fast=False, /",
        "mini_batch, *, context=None",
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_run_gets_the_mini_batch_alone_where_it_takes_no_more(load, parameters, kind):
    script = load(f"{kind} run({parameters}): return locals()")
    assert not script.takes_context
    assert "context" not in returned(script, "context").values()


@pytest.mark.parametrize(
    ("decoration", "takes_context"),
    [
        ("run = functools.partial(score, threshold=0.5)", False),
        ("run = functools.partial(score, 'model')", True),
        ("run = functools.lru_cache(score)", True),
        ("@functools.wraps(score)\ndef run(*given, **named): return score(*given, **named)", True),
        ("class Scorer:\n    def __call__(self, mini_batch, threshold=0.5): return threshold\nrun = Scorer()", False),
        ("class Scorer:\n    def score(self, mini_batch, context): return context\nrun = Scorer().score", True),
    ],
)
def test_what_stands_for_run_is_asked_in_the_same_way(load, decoration, takes_context):
    script = load(f"import functools\ndef score(mini_batch, threshold, model=None): return threshold\n{decoration}")
    assert script.takes_context is takes_context
    script.run("a", "context")


@pytest.mark.parametrize("parameters", ["", "one, two, three", "mini_batch, *, needed", "**options"])
def test_a_run_that_cannot_be_called_is_an_error_that_shows_how(load, parameters):
    with pytest.raises(
        EntryScriptError, match=r"it must be run\(mini_batch\) or run\(mini_batch, mini_batch_context\)"
    ):
        load(f"def run({parameters}): return 'run'")


@pytest.mark.parametrize(
    "run",
    [
        "async def run(mini_batch): return mini_batch",
        "class Scorer:\n    async def __call__(self, mini_batch): return mini_batch\nrun = Scorer()",
        "import functools\nasync def score(model, mini_batch): return mini_batch\nrun = functools.partial(score, 1)",
    ],
)
def test_an_asynchronous_run_is_completed_in_the_loop_of_the_script(load, run):
    script = load(run)
    assert script.is_async
    assert script.complete(script.run(["a"], None)) == ["a"]
    script.shutdown()


def test_a_script_without_an_async_def_has_no_loop(load):
    script = load("def run(mini_batch): return mini_batch")
    assert not script.is_async
    with pytest.raises(EntryScriptError, match="no event loop"):
        _ = script.loop


def test_a_failing_asynchronous_shutdown_is_no_failure(load):
    load("async def run(mini_batch): return mini_batch\nasync def shutdown(): 1 / 0").shutdown()


def test_a_script_without_run_is_an_error_that_names_it(load):
    with pytest.raises(EntryScriptError, match=r"score.py has no function run\(mini_batch\)"):
        load("def rum(mini_batch): return mini_batch")


def test_a_run_that_is_no_function_is_an_error(load):
    with pytest.raises(EntryScriptError, match=r"run in score\.py is a int"):
        load("run = 3")


def test_a_missing_script_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"score\.py"):
        load_script(str(tmp_path), "score.py", [])


def test_the_script_finds_its_arguments(load):
    script = load("import sys\ndef run(mini_batch): return sys.argv", arguments=["--model", "mosaic"])
    assert script.run([], None)[1:] == ["--model", "mosaic"]


def test_the_script_finds_its_neighbours_before_those_at_the_root(load, tmp_path):
    (tmp_path / "model.py").write_text("place = 'root'")
    (tmp_path / "paths.py").write_text("place = 'root'")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "model.py").write_text("place = 'sub'")
    script = load("import model, paths\ndef run(mini_batch): return model.place, paths.place", "sub/score.py")
    assert script.run([], None) == ("sub", "root")


def test_objects_of_the_scripts_own_classes_can_be_pickled(load):
    script = load("class Model: pass\ndef run(mini_batch): return Model()")
    model = script.run([], None)
    assert type(pickle.loads(pickle.dumps(model))) is type(model)


def test_a_failing_shutdown_is_no_failure(load):
    load("def run(mini_batch): return mini_batch\ndef shutdown(): raise SystemExit(3)").shutdown()


def test_the_dataset_of_a_table_knows_its_files_once():
    dataset = MiniBatchDataset("table", None, [["/in/a.csv", 0, 9, None], ["/in/a.csv", 9, 12, None]])
    assert dataset.to_path() == ["/in/a.csv"]


def test_the_dataset_of_files_has_no_rows():
    with pytest.raises(TypeError, match=r"use to_path\(\)"):
        MiniBatchDataset("files", ["/in/a.png"], ["/in/a.png"]).to_pandas_dataframe()


def test_the_context_has_the_names_of_the_original():
    assert MiniBatchContext._fields == ("partition_key_value", "dataset", "minibatch_index", "try_number")
