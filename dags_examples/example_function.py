"""
A function instead of a script: the most frequent words in some files of Python itself.

The worker processes receive the source of count_words and compile_pattern, and nothing else of this file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_prs import PipelineParameter, parallel_run

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow"), "demo", "function").expanduser()


def compile_pattern(shortest):
    global pattern  # noqa: PLW0603 - count_words can use the globals of init
    import re

    pattern = re.compile(rf"[a-z]{{{shortest},}}")


@parallel_run(init=compile_pattern, mini_batch_size=2, node_count=2, process_count_per_node=1)
def count_words(mini_batch, top):
    """Return the most frequent words of each file."""
    from collections import Counter
    from pathlib import Path

    counts = []
    for path in map(Path, mini_batch):
        words = Counter(pattern.findall(path.read_text(encoding="utf-8").lower()))
        counts.append(" ".join([path.name, *(word for word, _ in words.most_common(top))]))
    return counts


@task
def show(location: str) -> str:
    lines = Path(location).read_text(encoding="utf-8")
    print(lines)
    return lines


with DAG(
    "example_function",
    schedule=None,
    doc_md=__doc__,
    tags=["airflow_prs", "example"],
    params={
        "folder": Param(str(FOLDER), type="string", description="folder of the result"),
    },
):
    words = count_words(
        inputs=str(Path(json.__file__).parent / "*.py"),
        output="{{ params.folder }}/result",
        shortest=4,
        top=PipelineParameter("top", default_value=3, minimum=1, description="number of words for each file"),
    )
    show(words)
