"""
What type checkers must find. It is checked, never run; an ignored error that mypy --strict does not report is an error.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_prs import Environment, FileDataset, ParallelRunConfig, ParallelRunOperator, TabularDataset, parallel_run

config = ParallelRunConfig(
    environment=Environment.current(),
    entry_script="score.py",
    error_threshold=0,
    output_action="append_rows",  # type: ignore[arg-type]
    compute_target="local",
    node_count="two",  # type: ignore[arg-type]
    logging_level="warning",  # type: ignore[arg-type]
    append_row_format="json",  # type: ignore[arg-type]
)
ParallelRunConfig(Environment.current(), "score.py", 0, "append_row", "local", 1, node_cont=2)  # type: ignore[call-arg]

FileDataset("/in", partition_fromat="/{day}")  # type: ignore[call-arg]
TabularDataset.from_delimited_files("/in", separatr=";")  # type: ignore[call-arg]
TabularDataset.from_delimited_files("/in", header="all")  # type: ignore[arg-type]
TabularDataset.from_parquet_files("/in").partition_by(["a"], tarket="/out")  # type: ignore[call-arg]

with DAG("refused", schedule=None):
    ParallelRunOperator(task_id="step", parallel_run_config=config, inputs="/in", on_emty="skip")  # type: ignore[call-arg]
    ParallelRunOperator(task_id="step", parallel_run_config=config, inputs="/in", retrys=3)  # type: ignore[call-arg]
    ParallelRunOperator(task_id="step", parallel_run_config=config, on_empty="ignore")  # type: ignore[arg-type]
    ParallelRunOperator(task_id="step", parallel_run_config=config, retries="3")  # type: ignore[arg-type]
    ParallelRunOperator(task_id="step", inputs="/in")  # type: ignore[call-arg]


@parallel_run(inputs="/in", output_acton="append_row")  # type: ignore[call-overload, untyped-decorator]
def misspelled(mini_batch: list[str]) -> list[str]:
    return mini_batch


@parallel_run(inputs="/in", output_action="append")  # type: ignore[call-overload, untyped-decorator]
def wrong(mini_batch: list[str]) -> list[str]:
    return mini_batch


@parallel_run
def right(mini_batch: list[str]) -> list[str]:
    return mini_batch


right.override(retrys=3)  # type: ignore[call-arg]
right.override(logging_level="warning")  # type: ignore[arg-type]
