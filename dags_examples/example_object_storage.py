"""
Files on object storage: the number of long words in each text.

The Airflow Variable object_storage names the folder, for example s3://my_aws@my-bucket/demo or
abfs://my_wasb@my-container/demo. Put some texts into texts/ below it. Install airflow-prs[s3] or airflow-prs[azure].
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_prs import PipelineParameter, parallel_run


@parallel_run(mini_batch_size=10, node_count=2, process_count_per_node=1)
def count_words(mini_batch, shortest):
    """Return the number of long words of each file. The files are local copies while the function runs."""
    from pathlib import Path

    counts = []
    for path in map(Path, mini_batch):
        words = path.read_text(encoding="utf-8").split()
        counts.append(f"{path.name} {sum(len(word) >= shortest for word in words)}")
    return counts


with DAG(
    "example_object_storage",
    schedule=None,
    doc_md=__doc__,
    tags=["airflow_prs", "example"],
    params={
        "folder": Param("", type="string", description="folder with texts and result; empty: that of the Variable"),
    },
):
    folder = "{{ params.folder or var.value.object_storage }}"
    count_words(
        inputs=f"{folder}/texts",
        output=f"{folder}/result",
        shortest=PipelineParameter("shortest", default_value=4, minimum=1, description="letters of a word that counts"),
    )
