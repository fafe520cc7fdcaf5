"""
Parallel batch processing inside Apache Airflow.

The public names below are imported on first use: Airflow imports this package in every one of its processes, to ask
for `provider_info`, and that must cost next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_prs.config.compute import ComputeTarget as ComputeTarget
    from airflow_prs.config.config import ParallelRunConfig as ParallelRunConfig
    from airflow_prs.config.datasets import FileDataset as FileDataset
    from airflow_prs.config.datasets import TabularDataset as TabularDataset
    from airflow_prs.config.environment import Environment as Environment
    from airflow_prs.config.parameters import PipelineParameter as PipelineParameter
    from airflow_prs.operators.decorator import parallel_run as parallel_run
    from airflow_prs.operators.parallel_run import ParallelRunOperator as ParallelRunOperator
    from airflow_prs.operators.parallel_run import ParallelRunTaskGroup as ParallelRunTaskGroup
    from airflow_prs.report.summary import RunSummary as RunSummary
    from airflow_prs.report.summary import summary_of as summary_of

    __version__: str

_MODULES = {
    "ComputeTarget": "airflow_prs.config.compute",
    "Environment": "airflow_prs.config.environment",
    "FileDataset": "airflow_prs.config.datasets",
    "ParallelRunConfig": "airflow_prs.config.config",
    "ParallelRunOperator": "airflow_prs.operators.parallel_run",
    "ParallelRunTaskGroup": "airflow_prs.operators.parallel_run",
    "PipelineParameter": "airflow_prs.config.parameters",
    "RunSummary": "airflow_prs.report.summary",
    "TabularDataset": "airflow_prs.config.datasets",
    "parallel_run": "airflow_prs.operators.decorator",
    "summary_of": "airflow_prs.report.summary",
}

__all__ = [
    "ComputeTarget",
    "Environment",
    "FileDataset",
    "ParallelRunConfig",
    "ParallelRunOperator",
    "ParallelRunTaskGroup",
    "PipelineParameter",
    "RunSummary",
    "TabularDataset",
    "parallel_run",
    "summary_of",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("airflow-prs")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
