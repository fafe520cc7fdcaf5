"""DAG files run as `airflow dags test` runs them, and what came of it."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent
from typing import Any

from packaging.version import Version

PREAMBLE = """
from airflow.sdk import DAG, Label, Param, TaskGroup, chain, task
from airflow_prs import (
    ComputeTarget, Environment, FileDataset, ParallelRunConfig, ParallelRunOperator, PipelineParameter, TabularDataset,
    parallel_run,
)

def config(**changes):
    values = dict(
        environment=Environment.current(), source_directory="scripts", entry_script="score.py", error_threshold=-1,
        output_action="append_row", compute_target="local", node_count=2, process_count_per_node=1, mini_batch_size=2,
    )
    return ParallelRunConfig(**{**values, **changes})

"""

SCORE = """
import pathlib

def run(mini_batch):
    return [pathlib.Path(path).read_text() for path in mini_batch]
"""


def result_of(output: Path) -> str:
    """Read what a step published."""
    return (output / "parallel_run_step.txt").read_text()


@dataclass(frozen=True)
class Run:
    """A finished run of a DAG."""

    dag_id: str
    run_id: str
    state: str
    states: dict[str, str | None]

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """Value of an XCom."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = XComModel.get_many(run_id=self.run_id, key=key, task_ids=task_id, dag_ids=self.dag_id)
            found = session.scalars(query).first()
            return None if found is None else XComModel.deserialize_value(found)


def load_dag(file: Path) -> Any:
    """Parse a DAG file, and return its DAG."""
    from airflow.sdk import DAG

    spec = importlib.util.spec_from_file_location(f"dag_file_{file.parent.name}_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(value for value in vars(module).values() if isinstance(value, DAG))


def run_dag(file: Path, conf: dict[str, Any] | None = None, **options: Any) -> Run:
    """Run the DAG of a file in the configured DAGs folder once."""
    from airflow.utils.session import create_session

    dag = load_dag(file)
    if Version(version("apache-airflow-core")) < Version("3.2"):
        _serialize(file.parent)
    dag_run = dag.test(run_conf=conf, **options)
    with create_session() as session:
        instances = dag_run.get_task_instances(session=session)
        states = {
            ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": ti.state and str(ti.state)
            for ti in instances
        }
        return Run(dag.dag_id, dag_run.run_id, str(dag_run.state), states)


def _serialize(folder: Path) -> None:
    """Write DAGs into the database, which dag.test() does by itself from Airflow 3.2 on."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(DagBag(folder, include_examples=False), "dags-folder", None)


class DagFile:
    """
    A DAG file in the configured DAGs folder, the only place where ``dag.test()`` finds it.

    :param folder: of the file and its scripts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = folder / "scripts"
        self.scripts.mkdir(parents=True)
        self.script(SCORE)

    def script(self, source: str, name: str = "score.py") -> None:
        """Write an entry script."""
        (self.scripts / name).write_text(dedent(source), encoding="utf-8")

    def write(self, source: str) -> None:
        """Write the DAG file; `config()` and the public names are at hand."""
        (self.folder / "dag.py").write_text(PREAMBLE + dedent(source), encoding="utf-8")

    def load(self) -> Any:
        """Parse the file, and return its DAG."""
        return load_dag(self.folder / "dag.py")

    def run(self, conf: dict[str, Any] | None = None, **options: Any) -> Run:
        """Run the DAG once."""
        return run_dag(self.folder / "dag.py", conf, **options)

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder)
