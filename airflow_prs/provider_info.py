"""The provider's description for Airflow. Nothing of the package is imported, since every Airflow process calls it."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the description of the package for Airflow's providers manager."""
    return {
        "package-name": "airflow-prs",
        "name": "Parallel Run",
        "description": "Parallel batch processing: mini-batches, worker processes, retries, thresholds, one result.",
        "integrations": [{"integration-name": "Parallel Run", "tags": ["software"]}],
        "operators": [
            {
                "integration-name": "Parallel Run",
                "python-modules": [
                    "airflow_prs.operators.parallel_run",
                    "airflow_prs.operators.plan",
                    "airflow_prs.operators.mini_batches",
                    "airflow_prs.operators.merge",
                ],
            }
        ],
        "task-decorators": [{"name": "parallel_run", "class-name": "airflow_prs.operators.decorator.parallel_run"}],
        "sensors": [{"integration-name": "Parallel Run", "python-modules": ["airflow_prs.sensors.gatekeeper"]}],
        "triggers": [{"integration-name": "Parallel Run", "python-modules": ["airflow_prs.triggers.gatekeeper"]}],
        "config": {
            "parallel_run": {
                "description": "Options of the ParallelRunOperator.",
                "options": {
                    "compute_targets": _option(
                        "Path of a YAML file that declares the compute targets which ParallelRunConfig may name.",
                        example="/opt/airflow/compute_targets.yaml",
                    ),
                    "run_root": _option(
                        "Folder of the run folders of steps without output, on storage that all nodes share: a path, "
                        "or an address such as s3://conn_id@bucket/key. Empty: $AIRFLOW_HOME/parallel_run.",
                        example="/mnt/shared/parallel_run",
                    ),
                    "environments_root": _option(
                        "Folder of the Python environments that this machine makes, e.g. for Environment.from_pip. "
                        "Empty: $AIRFLOW_HOME/parallel_run/environments.",
                        example="/var/cache/parallel_run/environments",
                    ),
                },
            }
        },
    }


def _option(description: str, *, example: str) -> dict[str, Any]:
    return {"description": description, "version_added": "0.1.0", "type": "string", "example": example, "default": None}
