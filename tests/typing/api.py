"""What authors write; mypy --strict must accept every line. It is checked, never run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Context, Label, XComArg, chain, task

from airflow_prs import (
    ComputeTarget,
    Environment,
    FileDataset,
    ParallelRunConfig,
    ParallelRunOperator,
    ParallelRunTaskGroup,
    PipelineParameter,
    RunSummary,
    TabularDataset,
    parallel_run,
    summary_of,
)


@task
def download() -> str:
    return "/data/digits"


@task
def publish(location: str) -> None:
    print(location)


@task.branch
def choose(summary: RunSummary) -> str:
    return "inspect" if summary["items"]["failed"] > summary["rows"] else "publish"


def alert(context: Context) -> None:
    summary: RunSummary | None = summary_of(context)
    print(context["ti"].task_id if summary is None else summary["headline"])


config = ParallelRunConfig(
    source_directory="scripts",
    entry_script="score.py",
    mini_batch_size=5,
    error_threshold=10,
    allowed_failed_count=15,
    allowed_failed_percent=10,
    run_max_try=3,
    run_invocation_timeout=60,
    output_action="append_row",
    environment=Environment.current(),
    compute_target="local",
    node_count=PipelineParameter("node_count", default_value=2, minimum=1, maximum=8, description="machines"),
    process_count_per_node=2,
    mini_batches_per_task=1,
)
by_position = ParallelRunConfig(Environment.from_python("/opt/venv"), "score.py", -1, "summary_only", "local", 1)
on_gpu = ParallelRunConfig(
    environment=Environment.from_python(Path("/opt/venv")),
    entry_script="score.py",
    error_threshold=-1,
    output_action="summary_only",
    compute_target=ComputeTarget(queue="gpu", pool="gpus", pool_slots=2, executor="KubernetesExecutor"),
    node_count=1,
    environment_variables={"TOKEN": "{{ var.value.token }}"},
)
config.save_to_yaml("parallel_run_config.yml")
loaded: ParallelRunConfig = ParallelRunConfig.load_yaml(None, "parallel_run_config.yml")


def load(model: str) -> None:
    print(model)


@parallel_run
def names(mini_batch: list[str]) -> list[str]:
    return [Path(path).name for path in mini_batch]


@parallel_run(
    init=load,
    inputs="/data/*.txt",
    output="/data/out",
    mini_batch_size=10,
    node_count=PipelineParameter("nodes", default_value=2),
    on_empty="skip",
    retries=3,
)
def count_lines(mini_batch: list[str], factor: int = 1) -> list[int]:
    return [len(Path(path).read_text()) * factor for path in mini_batch]


with DAG("functions", schedule=None):
    counted: XComArg = count_lines(model="mosaic")
    again = count_lines.override(task_id="again", error_threshold=-1)(inputs=counted, output=download(), model="mosaic")
    download() >> names(inputs=["/a", "/b"], output="/data/{{ run_id }}", arguments=["--limit", 3]) >> again
    names(inputs=TabularDataset.from_parquet_files("/data"), side_inputs=FileDataset("/model"))
    plain: list[int] = count_lines.function(["a.txt"])

with DAG("digits", schedule=None):
    labels = FileDataset("data/labels").as_named_input("labels")
    score = ParallelRunOperator(
        task_id="predict_digits",
        parallel_run_config=config,
        inputs=[FileDataset("data/digits/*.png").as_named_input("digits"), FileDataset(download())],
        side_inputs=[labels],
        output="/data/out/{{ run_id }}",
        arguments=["--model_name", "mosaic", "--labels", labels, "--limit", 3],
        allow_reuse=True,
        on_empty="skip",
        retries=3,
        execution_timeout=timedelta(hours=1),
    )
    tables = ParallelRunOperator(
        name="irises",
        parallel_run_config=on_gpu,
        inputs=TabularDataset.from_delimited_files(["a.csv", "b.csv"], separator=";"),
    )
    group: ParallelRunOperator = ParallelRunTaskGroup(task_id="group", parallel_run_config=config, inputs="/data/in")
    ParallelRunOperator(task_id="of_a_path", parallel_run_config=config, inputs="/data/in", output="/data/out")
    ParallelRunOperator(task_id="of_a_task", parallel_run_config=config, inputs=download(), output="/data/out")
    parquet = TabularDataset.from_parquet_files(PipelineParameter("tables", default_value="/data/*.parquet"))
    copy: TabularDataset = parquet.partition_by(["land"], target="/data/by_land/{{ ds }}", name="by_land")
    lands: list[dict[str, Any]] = copy.get_partition_key_values(["land"])
    location: XComArg = score.output
    branch: XComArg = choose(score.summary)  # type: ignore[arg-type]  # as with any operator: Airflow renders it
    chain(download(), Label("scored"), score, tables)
    score >> publish(score.output)  # type: ignore[arg-type]  # as with any operator: Airflow renders it
