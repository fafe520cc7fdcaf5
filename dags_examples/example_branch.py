"""
A branch on what came of a run: failed items go to a person, a clean result goes on.

The DAG writes five letters, one of which is empty. The step counts the words of each letter and allows that two letters
fail. The next task reads the summary of the run and decides what follows.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_prs import RunSummary, parallel_run

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow"), "demo", "branch").expanduser()


@task
def write_letters(folder: str) -> str:
    letters = Path(folder, "letters")
    letters.mkdir(parents=True, exist_ok=True)
    for name in "abcde":
        (letters / f"{name}.txt").write_text("" if name == "c" else f"dear {name}, how are you?")
    return str(letters / "*.txt")


@parallel_run(mini_batch_size=1, error_threshold=2, run_max_try=1, process_count_per_node=1)
def count_words(mini_batch):
    from pathlib import Path

    counts = []
    for path in map(Path, mini_batch):
        words = path.read_text().split()
        if not words:
            raise ValueError(f"{path.name} is empty")
        counts.append(f"{path.name} {len(words)}")
    return counts


@task.branch
def choose(summary: RunSummary) -> str:
    print(summary["headline"])
    return "ask_a_person" if summary["items"]["failed"] else "go_on"


@task
def ask_a_person(summary: RunSummary) -> None:
    Path(summary["run_folder"], "questions.txt").write_text(f"{summary['headline']}: please look at the letters\n")


@task
def go_on(location: str) -> None:
    print(f"the result is complete: {location}")


with DAG(
    "example_branch",
    schedule=None,
    doc_md=__doc__,
    tags=["airflow_prs", "example"],
    params={"folder": Param(str(FOLDER), type="string", description="folder of the letters and the result")},
):
    counts = count_words(inputs=write_letters("{{ params.folder }}"), output="{{ params.folder }}/result")
    choose(counts.summary) >> [ask_a_person(counts.summary), go_on(counts)]
