"""
Many models: the entry script trains and stores a model for each group of patients.

The DAG writes the 442 diabetes patients of scikit-learn into a CSV file for each sex and decade of age. Each of these
files is one mini-batch. Its path contains the sex and the decade, which are the partition keys.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_prs import Environment, FileDataset, ParallelRunConfig, ParallelRunOperator

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow"), "demo", "many_models").expanduser()


@task
def write_groups(folder: str) -> str:
    from sklearn.datasets import load_diabetes

    patients = load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": "progression"})
    groups = Path(folder, "patients")
    for (sex, decade), group in patients.groupby([patients["sex"].astype(int), patients["age"].astype(int) // 10]):
        path = groups / f"sex_{sex}" / f"{decade}0s.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        group.to_csv(path, index=False)
    return str(groups)


@task
def count_models(output: str) -> int:
    models = sorted(Path(output, "models").glob("*.pickle"))
    print(f"{len(models)} models in {output}: {', '.join(model.stem for model in models)}")
    return len(models)


with DAG(
    "example_many_models",
    schedule=None,
    doc_md=__doc__,
    tags=["airflow_prs", "example"],
    params={"folder": Param(str(FOLDER), type="string", description="folder of the patients and the models")},
):
    groups = FileDataset(write_groups("{{ params.folder }}"), partition_format="/{sex}/{decade}.csv")
    train_models = ParallelRunOperator(
        task_id="train_models",
        parallel_run_config=ParallelRunConfig(
            environment=Environment.current(),
            source_directory="scripts/many_models",
            entry_script="train_group.py",
            error_threshold=0,
            output_action="summary_only",
            compute_target="local",
            node_count=2,
            process_count_per_node=2,
            partition_keys=["sex", "decade"],
        ),
        inputs=[groups.as_named_input("patients")],
        output="{{ params.folder }}/result",
    )
    count_models(train_models.output)
