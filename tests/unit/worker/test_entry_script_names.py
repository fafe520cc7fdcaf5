import importlib
import logging
import sys

import pytest

from airflow_prs import entry_script as public
from airflow_prs.worker import azureml_core, entry_script


@pytest.fixture(autouse=True)
def _as_it_was():
    modules, path = dict(sys.modules), sys.path[:]
    entry_script.EntryScript._only = None
    yield
    entry_script.EntryScript._only = None
    logger = logging.getLogger("EntryScript")
    for handler in logger.handlers[:]:
        handler.close()
        logger.removeHandler(handler)
    azureml_core._paths.clear()
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)
    sys.path[:] = path


@pytest.fixture
def filled_in(tmp_path):
    entry_script.fill_in(
        folder="/source",
        output_dir="/out",
        agent_name="process003",
        script_log=str(tmp_path / "logs" / "process003.log.txt"),
        level="INFO",
    )
    return entry_script.EntryScript()


def test_users_import_the_one_that_the_worker_fills_in():
    assert public.EntryScript is entry_script.EntryScript


def test_there_is_one_entry_script(filled_in):
    assert entry_script.EntryScript() is filled_in


def test_it_knows_the_process_that_it_runs_in(filled_in, tmp_path):
    known = (filled_in.dir, filled_in.output_dir, filled_in.agent_name, filled_in.log_dir)
    assert known == ("/source", "/out", "process003", str(tmp_path / "logs"))


def test_its_logger_writes_to_the_log_of_the_process(filled_in, tmp_path):
    filled_in.logger.info("model loaded")
    assert (tmp_path / "logs" / "process003.log.txt").read_text().endswith("INFO model loaded\n")


def test_a_script_that_does_not_log_leaves_no_file(filled_in, tmp_path):
    assert list((tmp_path / "logs").iterdir()) == []


def test_outside_a_worker_process_it_can_be_used_as_well():
    assert entry_script.EntryScript().agent_name == "process000"


@pytest.mark.parametrize("name", ["azureml_user.parallel_run", "entry_script", "airflow_prs.entry_script"])
def test_scripts_import_it_under_every_name_of_the_original(name):
    entry_script.offer_names([])
    assert importlib.import_module(name).EntryScript is entry_script.EntryScript


def test_a_users_own_file_of_that_name_wins(tmp_path):
    (tmp_path / "entry_script.py").write_text("EntryScript = 'mine'")
    sys.path.insert(0, str(tmp_path))
    entry_script.offer_names([str(tmp_path)])
    assert importlib.import_module("entry_script").EntryScript == "mine"


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
