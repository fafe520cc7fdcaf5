"""The keyword arguments of a step, so that type checkers find a misspelled name or a wrong value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow.sdk import DAG, TaskGroup

    from airflow_prs.config.compute import ComputeTarget
    from airflow_prs.config.config import LoggingLevel, OutputAction, RowFormat
    from airflow_prs.config.datasets import FileDataset
    from airflow_prs.config.environment import Environment
    from airflow_prs.config.parameters import PipelineParameter
    from airflow_prs.operators.declaration import Inputs, OnEmpty

    Callback = Callable[..., Any]
    Callbacks = Callback | Collection[Callback] | None


class TaskArguments(TypedDict, total=False):
    """
    The arguments of Airflow's BaseOperator that a step takes.

    A type checker allows those that only newer versions of Airflow have; when the DAG is parsed, they are an error in
    older ones.
    """

    owner: str
    email: str | Sequence[str] | None
    email_on_retry: bool
    email_on_failure: bool
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float
    max_retry_delay: timedelta | float | None
    retry_policy: Any
    start_date: datetime | None
    end_date: datetime | None
    depends_on_past: bool
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    wait_for_downstream: bool
    params: Mapping[str, Any] | None
    priority_weight: int
    weight_rule: Any
    queue: str
    pool: str | None
    pool_slots: int
    sla: timedelta | None
    execution_timeout: timedelta | None
    on_execute_callback: Callbacks
    on_failure_callback: Callbacks
    on_success_callback: Callbacks
    on_retry_callback: Callbacks
    on_skipped_callback: Callbacks
    pre_execute: Callable[..., None] | None
    post_execute: Callable[..., None] | None
    trigger_rule: str
    resources: dict[str, Any] | None
    run_as_user: str | None
    max_active_tis_per_dag: int | None
    executor: str | None
    executor_config: dict[str, Any] | None
    inlets: Any
    outlets: Any
    doc: str | None
    doc_md: str | None
    doc_json: str | None
    doc_yaml: str | None
    doc_rst: str | None
    task_display_name: str | None
    logger_name: str | None
    allow_nested_operators: bool
    render_template_as_native_obj: bool | None


class FunctionSettings(TaskArguments, total=False):
    """The parameters of ParallelRunOperator and ParallelRunConfig that ``@parallel_run`` takes."""

    task_id: str
    name: str
    inputs: Inputs
    side_inputs: Sequence[FileDataset] | FileDataset | None
    output: Any
    arguments: Sequence[Any] | None
    allow_reuse: bool
    on_empty: OnEmpty
    dag: DAG | None
    task_group: TaskGroup | None
    default_args: dict[str, Any] | None
    environment: Environment | str | os.PathLike[str]
    error_threshold: int | PipelineParameter
    output_action: OutputAction
    compute_target: ComputeTarget | str
    node_count: int | PipelineParameter
    process_count_per_node: int | PipelineParameter | None
    mini_batch_size: int | str | PipelineParameter | None
    source_directory: str | os.PathLike[str] | None
    description: str | None
    logging_level: LoggingLevel | PipelineParameter
    run_invocation_timeout: int | PipelineParameter
    run_max_try: int | PipelineParameter
    append_row_file_name: str | PipelineParameter | None
    allowed_failed_count: int | PipelineParameter | None
    allowed_failed_percent: float | PipelineParameter | None
    partition_keys: Sequence[str] | PipelineParameter | None
    environment_variables: Mapping[str, Any] | None
    mini_batches_per_task: int | PipelineParameter | None
    append_row_format: RowFormat | PipelineParameter | None
    count_failed_tries: bool | PipelineParameter
    retry_delay_s: float | PipelineParameter
    max_mini_batches_per_process: int | PipelineParameter | None
    max_memory_per_process: int | str | PipelineParameter | None
    max_concurrency_per_process: int | PipelineParameter
    read_ahead: bool | PipelineParameter
    exit_timeout_s: float | PipelineParameter
    lend: bool | PipelineParameter
    keep_rows: bool | PipelineParameter
    bisect_failed_mini_batches: bool | PipelineParameter
