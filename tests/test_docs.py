"""The pages for readers say what the code does, and their code runs."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from airflow_prs import (
    ComputeTarget,
    FileDataset,
    ParallelRunConfig,
    ParallelRunOperator,
    PipelineParameter,
    TabularDataset,
)
from airflow_prs.cli import main as cli
from airflow_prs.config import arguments
from airflow_prs.config.compute import load_compute_targets
from airflow_prs.config.config import OURS, RULES
from airflow_prs.provider_info import get_provider_info
from airflow_prs.records import TryStatus
from airflow_prs.report.processed import NOT_FINISHED, NOT_TRIED
from airflow_prs.run_folder.intervals import ON_OBJECTS
from tests.dag_runs import DagFile
from tests.lacking import lacking

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
README = PAGES["README.md"]
GET_STARTED = PAGES["get_started.md"]
PARAMETERS = PAGES["parameters.md"]

every_page = pytest.mark.parametrize("page", PAGES)


def blocks(text, language):
    """Give the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def without_blocks(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def section(text, heading):
    """Give what stands below a heading, up to the next one of any level."""
    return re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)[1]


def table(text):
    """Give the rows of all tables, each as a list of cells."""
    lines = (line.strip().strip("|") for line in text.splitlines() if line.startswith("|"))
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return [cells for number, cells in enumerate(rows) if not _is_head(rows, number)]


def _is_head(rows, number):
    rules = [set("".join(cells)) <= set("-| ") and "-" in "".join(cells) for cells in rows[number : number + 2]]
    return any(rules)


def names(text):
    """Give the names in the first column of a table, without marks."""
    return [cells[0].rstrip("*") for cells in table(text)]


def anchors(text):
    """Give the anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Code


@every_page
def test_python_parses(page):
    for block in blocks(PAGES[page], "python"):
        ast.parse(block)


@every_page
def test_what_is_imported_of_the_package_exists(page):
    imports = [
        node
        for block in blocks(PAGES[page], "python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("airflow_prs")
    ]
    missing = [
        f"{node.module}.{alias.name}"
        for node in imports
        for alias in node.names
        if not hasattr(importlib.import_module(node.module), alias.name)
    ]
    assert missing == []


@pytest.fixture(scope="module", params=["Your first DAG", "A script instead of a function"])
def first_run(request, airflow_home, tmp_path_factory):
    """Run a DAG of the page, with another folder for its output; yields the run and that folder."""
    *scripts, dag = blocks(section(GET_STARTED, request.param), "python")
    output = tmp_path_factory.mktemp("first_run")
    file = DagFile(airflow_home / "dags" / "get_started")
    for script in scripts:
        file.script(script, "count_lines.py")
    (file.folder / "dag.py").write_text(dag.replace("/tmp/first_run", str(output)), encoding="utf-8")
    yield file.run(), output
    file.remove()


def test_the_first_dag_succeeds(first_run):
    run, _ = first_run
    assert run.state == "success"


def test_the_first_dag_counts_lines_in_input_order(first_run):
    _, output = first_run
    paths = sorted(Path(json.__file__).parent.glob("*.py"))
    expected = [f"{path.name} {len(path.read_text().splitlines())}" for path in paths]
    assert (output / "parallel_run_step.txt").read_text().splitlines() == expected


def test_the_first_dag_has_the_tasks_that_the_page_draws(first_run):
    run, _ = first_run
    tasks = {name.removeprefix("count_lines.") for name in run.states}
    assert tasks == {"plan", "mini_batches[0]", "mini_batches[1]", "gatekeeper", "merge", "show"}


def test_a_run_folder_holds_the_files_that_the_page_names(first_run):
    run, _ = first_run
    folder = Path(run.xcom("count_lines.plan", key="plan")["folder"])
    places = " ".join(
        cells[0]
        for cells in table(section(PAGES["results.md"], "Results and run folders"))
        if cells[0].startswith("run folder")
    )
    named = re.findall(r"`([^`]+)`", places)
    assert "report.json" in named
    assert [name for name in named if not (folder / name).exists()] == []


def test_a_run_folder_holds_the_files_that_the_architecture_page_draws(first_run):
    run, _ = first_run
    folder = Path(run.xcom("count_lines.plan", key="plan")["folder"])
    drawn = set(re.findall(r"[\w-]+\.\w+", blocks(PAGES["architecture.md"], "text")[0]))
    found = {re.sub(r"-\d+\.bin$", "-.bin", path.name) for path in folder.rglob("*")} | {"parallel_run_step.txt"}
    # A shard that is done within two seconds never shows how far it is, and no rows of a table have failed.
    assert drawn - found - {"status.json", "failed_rows.parquet"} == set()


def test_a_step_is_moved_as_the_page_shows(tmp_path):
    original = (ROOT / "tests" / "assets" / "parallel_run_config.yml").read_text()
    (tmp_path / "parallel_run_config.yml").write_text(original.replace("cpu-cluster", "local"))
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "digit_identification.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    after = compile(blocks(PAGES["moving.md"], "python")[0], str(tmp_path / "dag.py"), "exec")
    made = {"__file__": str(tmp_path / "dag.py")}
    exec(after, made)
    assert isinstance(made["step"], ParallelRunOperator)


def test_a_function_stands_for_a_script_as_the_page_shows(tmp_path):
    (tmp_path / "dag.py").write_text(
        next(b for b in blocks(PAGES["entry_script.md"], "python") if "parallel_run(" in b)
    )
    spec = importlib.util.spec_from_file_location("page_dag", tmp_path / "dag.py")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    assert page.show.function("/data/out") is None
    assert page.score.function.__name__ == "score"


def test_the_job_file_is_that_of_a_dag_and_of_the_shell(tmp_path, capsys):
    (tmp_path / "job.yml").write_text(blocks(PAGES["entry_script.md"], "yaml")[0])
    assert ParallelRunConfig.load_yaml(None, tmp_path / "job.yml").entry_script == "count_lines.py"
    write_job(tmp_path, script="count_lines.py", data="data")
    assert cli.main(["run", str(tmp_path / "job.yml")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out/parallel_run_step.txt\n"


def test_a_parallel_job_of_azure_runs_as_the_page_of_moving_says(tmp_path, capsys):
    (tmp_path / "parallel.yml").write_text(blocks(PAGES["moving.md"], "yaml")[0])
    write_job(tmp_path, script="count_words.py", data="letters")
    assert cli.main(["run", str(tmp_path / "parallel.yml")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out/counts.txt\n"
    assert (tmp_path / "out/counts.txt").read_text() == f"--words {tmp_path}/words.txt\n" * 3


def write_job(folder, *, script, data):
    for name in ("scripts", data):
        (folder / name).mkdir()
    (folder / "words.txt").write_text("dear")
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / data / name).write_text("dear anna")
    code = "import sys\n\ndef run(mini_batch):\n    return [' '.join(sys.argv[1:3])] * len(mini_batch)\n"
    (folder / "scripts" / script).write_text(code)


def test_the_file_of_compute_targets_declares_one(tmp_path):
    (tmp_path / "targets.yaml").write_text(blocks(PARAMETERS, "yaml")[0])
    assert load_compute_targets(tmp_path / "targets.yaml")["gpu"].queue == "gpu_workers"


# Parameters


def test_every_field_of_the_configuration_is_described_in_order():
    assert names(section(PARAMETERS, "ParallelRunConfig")) == list(RULES)


def test_stars_mark_what_a_parameter_of_the_run_may_stand_for():
    marked = [cells[0].rstrip("*") for cells in table(section(PARAMETERS, "ParallelRunConfig")) if "*" in cells[0]]
    assert marked == [name for name, rule in RULES.items() if rule.schema is not None]


def test_defaults_of_the_configuration_are_those_of_the_page():
    told = {cells[0].rstrip("*"): cells[-1].strip("`") for cells in table(section(PARAMETERS, "ParallelRunConfig"))}
    fields_of = ParallelRunConfig.model_fields.items()
    real = {name: "required" if field.is_required() else json_like(field.default) for name, field in fields_of}
    assert told == real


def json_like(value):
    return f'"{value}"' if isinstance(value, str) else repr(value)


def test_every_parameter_of_the_operator_is_described():
    told = names(section(PARAMETERS, "ParallelRunOperator"))
    assert set(told) == set(inspect.signature(ParallelRunOperator.__init__).parameters) - {"self", "task_arguments"}


@pytest.mark.parametrize("described", [FileDataset, PipelineParameter, ComputeTarget])
def test_every_parameter_of_a_small_class_is_named(described):
    place = {FileDataset: "Datasets"}.get(described, described.__name__)
    given = {field.name for field in fields(described)} - {"name" if described is FileDataset else ""}
    assert [name for name in sorted(given) if name not in section(PARAMETERS, place)] == []


def test_every_option_for_the_driver_is_described():
    told = re.findall(r"--(\w+)", "\n".join(names(section(PARAMETERS, "Arguments for the script, and for the driver"))))
    assert sorted(told) == sorted(arguments._OPTIONS)


def test_every_reserved_name_is_told():
    told = section(PARAMETERS, "Arguments for the script, and for the driver")
    assert [name for name in arguments.RESERVED if name not in told] == []


def test_every_option_of_airflows_configuration_is_described():
    told = names(section(PARAMETERS, "Options of Airflow's configuration"))
    options = get_provider_info()["config"]["parallel_run"]["options"]
    assert sorted(told) == sorted(f"`[parallel_run] {name}`" for name in options)


def test_every_status_is_described():
    told = re.split(r", |\n", "\n".join(names(section(PAGES["failures.md"], "A try"))))
    assert told == [*TryStatus.__members__, NOT_TRIED, NOT_FINISHED]


def test_the_move_is_described_parameter_by_parameter():
    told = names(section(PAGES["moving.md"], "ParallelRunConfig"))
    assert told == [name for name in RULES if name not in OURS]


def test_what_is_new_is_told_to_those_who_move():
    told = section(PAGES["moving.md"], "ParallelRunConfig")
    assert [name for name in OURS if name not in told] == []


def test_what_datasets_can_be_asked_for_is_described():
    told = set(re.findall(r"`(?:TabularDataset)?\.(\w+)\(", PARAMETERS))
    methods = {
        name for name in dir(TabularDataset) if not name.startswith("_") and callable(getattr(TabularDataset, name))
    }
    assert methods - told == {"promoted", "to_source", "to_spec"}


# Commands and links


def test_the_page_of_storage_tells_how_often_nodes_commit():
    text = (ROOT / "docs/storage.md").read_text()
    row = re.search(r"^\| commits of a node \|.*\| every (\w+) seconds \|$", text, re.MULTILINE)
    assert ["one", "two", "three", "four", "five"].index(row[1]) + 1 == ON_OBJECTS.commit_s


@every_page
def test_every_target_of_make_exists(page):
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    told = re.findall(r"(?:`|\$ )make ([a-z0-9-]+)", PAGES[page])
    assert set(told) - set(phony) == set()


@pytest.mark.parametrize("command", ["run", "check", "show"])
def test_every_option_of_the_command_line_exists(command):
    lines = re.findall(rf"airflow-prs {command}\b[^`\n]*|`{command} --[^`]*", "\n".join(PAGES.values()))
    ours = [line.partition(" -- ")[0] for line in lines]
    told = {option for line in ours for option in re.findall(r"--[a-z][a-z-]+", line)}
    shown = subprocess.run(
        [sys.executable, "-m", "airflow_prs", command, "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert lines
    assert [option for option in sorted(told) if option not in shown] == []


@every_page
def test_no_link_is_dead(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(PAGES[page])):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        linked = folder / path if path else folder / page
        if not linked.exists() or (anchor and anchor not in anchors(linked.read_text(encoding="utf-8"))):
            dead.append(target)
    assert dead == []


def test_every_page_is_linked_from_the_readme():
    assert [page for page in PAGES if page not in {"README.md", "index.md"} and f"(docs/{page}" not in README] == []


def test_the_site_is_built_without_a_warning(tmp_path):
    if importlib.util.find_spec("zensical") is None:
        lacking("Zensical, which needs Python 3.11")
    # A copy, as Zensical writes beside its configuration.
    for name in [".mkdocs.yml", "docs", "airflow_prs"]:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "zensical", "build", "--config-file", ".mkdocs.yml", "--strict"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    pages = {path.stem for path in (tmp_path / ".site").glob("*.html")}
    assert {Path(page).stem for page in PAGES if page != "README.md"} <= pages


def test_every_page_is_in_the_navigation_of_the_site():
    told = set(re.findall(r"[\w/]+\.md", (ROOT / ".mkdocs.yml").read_text()))
    assert told == {page for page in PAGES if page != "README.md"}


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.splitlines()) <= 150
