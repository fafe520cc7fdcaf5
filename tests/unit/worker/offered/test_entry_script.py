import importlib
import importlib.util
import logging
import pickle
import sys

import pytest

from airflow_prs import entry_script as public
from airflow_prs.worker.offered import azureml_core, entry_script


@pytest.fixture(autouse=True)
def _as_it_was():
    modules, path, finders = dict(sys.modules), sys.path[:], sys.meta_path[:]
    entry_script.EntryScript._only = None
    yield
    entry_script.EntryScript._only = None
    logger = logging.getLogger("EntryScript")
    logger.propagate = True
    for handler in logger.handlers[:]:
        handler.close()
        logger.removeHandler(handler)
    azureml_core._paths.clear()
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)
    sys.path[:], sys.meta_path[:] = path, finders
    importlib.invalidate_caches()


@pytest.fixture
def sent():
    return []


@pytest.fixture
def filled_in(tmp_path, sent):
    entry_script.fill_in(
        folder="/source",
        output_dir="/out",
        agent_name="process003",
        log_dir=str(tmp_path / "logs"),
        level="INFO",
        send_log=sent.append,
    )
    return entry_script.EntryScript()


def test_users_import_the_one_that_the_worker_fills_in():
    assert public.EntryScript is entry_script.EntryScript


def test_there_is_one_entry_script(filled_in):
    assert entry_script.EntryScript() is filled_in


def test_it_knows_the_process_that_it_runs_in(filled_in, tmp_path):
    known = (filled_in.dir, filled_in.output_dir, filled_in.agent_name, filled_in.log_dir)
    assert known == ("/source", "/out", "process003", str(tmp_path / "logs"))


def test_a_line_of_its_logger_is_sent_at_once(filled_in, sent):
    filled_in.logger.info("model %s", "loaded")
    (lines,) = sent
    assert lines.endswith(" INFO model loaded\n")


def test_lines_that_follow_closely_are_sent_together(filled_in, sent):
    for number in range(10):
        filled_in.logger.info("line %d", number)
    filled_in.logger.handlers[0].flush()
    assert len(sent) == 2
    assert [line[-1] for line in "".join(sent).splitlines()] == list("0123456789")


def test_many_lines_are_sent_without_waiting(filled_in, sent):
    filled_in.logger.info("first")
    filled_in.logger.info("x" * entry_script.LOG_BATCH_CHARACTERS)
    assert len(sent) == 2


def test_a_line_that_cannot_be_made_is_no_failure_of_the_script(filled_in, sent, capsys):
    filled_in.logger.propagate = False
    filled_in.logger.info("%d", "x")
    assert sent == []
    assert "Logging error" in capsys.readouterr().err


def test_there_is_a_folder_for_logs_of_the_scripts_own(filled_in, tmp_path):
    assert list((tmp_path / "logs").iterdir()) == []


def test_outside_a_worker_process_it_can_be_used_as_well():
    assert entry_script.EntryScript().agent_name == "process000"


@pytest.mark.parametrize("name", ["azureml_user.parallel_run", "entry_script", "airflow_prs.entry_script"])
def test_scripts_import_it_under_every_name_of_the_original(name):
    entry_script.offer_names()
    assert importlib.import_module(name).EntryScript is entry_script.EntryScript


def test_the_exceptions_are_importable_under_our_name():
    entry_script.offer_names()
    module = importlib.import_module("airflow_prs.entry_script")
    assert (module.NotRetryable, module.RetryAfter) == (public.NotRetryable, public.RetryAfter)
    assert not hasattr(importlib.import_module("azureml_user.parallel_run"), "NotRetryable")


def test_an_exception_that_asks_to_wait_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(public.RetryAfter(12.5, "busy")))
    assert (error.seconds, str(error)) == (12.5, "busy")


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "soon"])
def test_a_wait_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError):
        public.RetryAfter(seconds)


@pytest.mark.parametrize("name", ["azureml_user.parallel_run", "entry_script", "azureml.core", "azureml.core.model"])
@pytest.mark.parametrize("is_package", [True, False])
def test_a_module_of_the_users_own_beside_the_script_wins(tmp_path, name, is_package):
    place = tmp_path.joinpath(*name.split("."))
    file = place / "__init__.py" if is_package else place.with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    for folder in file.relative_to(tmp_path).parents[:-1]:
        (tmp_path / folder / "__init__.py").touch()
    file.write_text("EntryScript = Model = 'mine'")
    entry_script.offer_names()
    azureml_core.offer_names({})
    sys.path.insert(0, str(tmp_path))
    assert importlib.import_module(name).EntryScript == "mine"


@pytest.mark.parametrize("missing", ["azureml.core.model", "azureml_user.parallel_run"])
@pytest.mark.parametrize("has_init", [True, False])
def test_what_a_package_of_the_users_own_does_not_have_is_offered_beside_it(tmp_path, missing, has_init):
    folder = tmp_path / missing.partition(".")[0]
    folder.mkdir()
    (folder / "colours.py").write_text("blue = 'mine'")
    if has_init:
        (folder / "__init__.py").write_text("here = 'mine'")
    entry_script.offer_names()
    azureml_core.offer_names({})
    sys.path.insert(0, str(tmp_path))
    assert importlib.import_module(f"{folder.name}.colours").blue == "mine"
    assert importlib.import_module(missing).__name__ == missing
    assert hasattr(importlib.import_module(folder.name), missing.split(".")[1])


@pytest.mark.parametrize("name", ["azureml", "azureml.core.run", "azureml_user", "entry_script"])
def test_libraries_may_ask_whether_there_is_a_module(name):
    entry_script.offer_names()
    azureml_core.offer_names({})
    importlib.import_module(name)
    assert importlib.util.find_spec(name).name == name


def test_a_model_is_the_side_input_of_its_name():
    azureml_core.offer_names({"mosaic": "/models/mosaic.pkl"})
    model = importlib.import_module("azureml.core.model").Model
    assert model.get_model_path("mosaic", version=3) == "/models/mosaic.pkl"


def test_an_unknown_model_is_an_error_that_names_the_known_ones():
    azureml_core.offer_names({"mosaic": "/models/mosaic.pkl"})
    with pytest.raises(KeyError, match=r"no side input is named 'mosiac'.*there are: 'mosaic'"):
        azureml_core.Model.get_model_path("mosiac")


def test_metrics_of_a_run_go_to_the_log(caplog):
    azureml_core.offer_names({})
    run = importlib.import_module("azureml.core").Run.get_context()
    with caplog.at_level(logging.INFO):
        run.log("accuracy", 0.9)
        run.log_row("losses", step=1)
    assert caplog.messages == ["log accuracy 0.9", "log_row losses step=1"]


def test_nothing_else_of_azureml_is_pretended():
    with pytest.raises(AttributeError, match="not installed here"):
        azureml_core.Run.get_context().register_model()
