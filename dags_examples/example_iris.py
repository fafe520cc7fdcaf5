"""
Irises: a CSV file in, its rows with a predicted species out.

The DAG writes the 150 irises of scikit-learn as a CSV file, and trains a classifier on every second row. The entry
script receives 25 rows at a time as a DataFrame and returns a DataFrame.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_prs import Environment, FileDataset, ParallelRunConfig, ParallelRunOperator, TabularDataset

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow"), "demo", "iris").expanduser()


@task
def write_table(folder: str) -> str:
    from sklearn.datasets import load_iris

    iris = load_iris(as_frame=True)
    table = iris.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    path = Path(folder, "iris.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    table.assign(species=iris.target_names[iris.target]).to_csv(path, index=False)
    return str(path)


@task
def train(table: str, folder: str) -> str:
    import pickle

    import pandas as pd
    from sklearn.tree import DecisionTreeClassifier

    irises = pd.read_csv(table)[::2]
    classifier = DecisionTreeClassifier(random_state=0).fit(irises.drop(columns="species"), irises["species"])
    model = Path(folder, "model", "classifier.pickle")
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(pickle.dumps(classifier))
    return str(model)


@task
def compare(result: str) -> float:
    """Return the share of irises whose species was predicted correctly."""
    rows = [line.split() for line in Path(result).read_text(encoding="utf-8").splitlines()]
    right = sum(species == predicted for *_, species, predicted in rows)
    print(f"{right} of {len(rows)} predictions are correct")
    return right / len(rows)


with DAG(
    "example_iris",
    schedule=None,
    doc_md=__doc__,
    tags=["airflow_prs", "example"],
    params={"folder": Param(str(FOLDER), type="string", description="folder of the table, the model and the result")},
):
    table = write_table("{{ params.folder }}")
    model = FileDataset(train(table, "{{ params.folder }}")).as_named_input("model")
    classify = ParallelRunOperator(
        task_id="classify",
        parallel_run_config=ParallelRunConfig(
            environment=Environment.current(),
            source_directory="scripts/iris",
            entry_script="classify.py",
            error_threshold=0,
            output_action="append_row",
            append_row_file_name="irises.txt",
            compute_target="local",
            node_count=1,
            process_count_per_node=2,
            mini_batch_size="25 rows",
        ),
        inputs=[TabularDataset.from_delimited_files(table).as_named_input("irises")],
        side_inputs=[model],
        output="{{ params.folder }}/result",
        arguments=["--model", model],
    )
    compare(classify.output)
