"""
Handwritten digits: files in, one line for each file out.

The DAG writes the 1,797 scans of scikit-learn as PNG files and trains a classifier on the first half of them. Then two
nodes with two worker processes each read all scans. The number of nodes and the size of a mini-batch are parameters of
the run.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_prs import Environment, FileDataset, ParallelRunConfig, ParallelRunOperator, PipelineParameter

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow"), "demo", "digits").expanduser()
TRAINED = 900
"""Number of scans that the classifier is trained on. It has never seen the others."""


@task
def write_scans(folder: str) -> str:
    from PIL import Image
    from sklearn.datasets import load_digits

    scans = Path(folder, "scans")
    scans.mkdir(parents=True, exist_ok=True)
    for number, levels in enumerate(load_digits().images):
        Image.fromarray((levels * 15).astype("uint8")).save(scans / f"{number:04}.png")
    return str(scans)


@task
def train(folder: str) -> str:
    import pickle

    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    digits = load_digits()
    classifier = SVC(gamma=0.001).fit(digits.data[:TRAINED], digits.target[:TRAINED])
    model = Path(folder, "model", "classifier.pickle")
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(pickle.dumps(classifier))
    return str(model)


@task
def compare(result: str) -> float:
    """Return the share of correct answers for the scans that the classifier was not trained on."""
    from sklearn.datasets import load_digits

    read = [int(line.split()[1]) for line in Path(result).read_text(encoding="utf-8").splitlines()]
    wanted = load_digits().target.tolist()
    right = [a == b for a, b in zip(read[TRAINED:], wanted[TRAINED:], strict=True)]
    accuracy = sum(right) / len(right)
    print(f"{sum(right)} of {len(right)} new scans are read correctly ({accuracy:.1%})")
    return accuracy


with DAG(
    "example_digits",
    schedule=None,
    doc_md=__doc__,
    tags=["airflow_prs", "example"],
    params={"folder": Param(str(FOLDER), type="string", description="folder of the scans, the model and the result")},
):
    scans = FileDataset(write_scans("{{ params.folder }}")).as_named_input("scans")
    model = FileDataset(train("{{ params.folder }}")).as_named_input("model")
    read_digits = ParallelRunOperator(
        task_id="read_digits",
        parallel_run_config=ParallelRunConfig(
            environment=Environment.current(),
            source_directory="scripts/digits",
            entry_script="read_digits.py",
            error_threshold=0,
            output_action="append_row",
            append_row_file_name="digits.txt",
            compute_target="local",
            node_count=PipelineParameter("node_count", default_value=2, minimum=1, maximum=8),
            process_count_per_node=2,
            mini_batch_size=PipelineParameter("mini_batch_size", default_value=25, description="scans in a mini-batch"),
        ),
        inputs=[scans],
        side_inputs=[model],
        output="{{ params.folder }}/result",
        arguments=["--model", model],
        allow_reuse=False,  # every run does the work again, so that there is something to see
    )
    compare(read_digits.output)
